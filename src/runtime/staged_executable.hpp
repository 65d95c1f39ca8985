// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ai_vmm/backend/backend.hpp"

namespace ai_vmm::runtime {

/// A stage of a model that was cut, compiled, and the numbers of the values that it reads and makes.
struct StagePart {
    std::shared_ptr<backend::Executable> executable;
    std::string where;         ///< "cuda on gpu:0", for messages
    std::vector<int> inputs;   ///< per input of the stage
    std::vector<int> outputs;  ///< per output
};

/// How values pass between the caller and the stages.
struct StageValues {
    int count = 0;
    std::vector<int> inputs;   ///< per input of the whole model; -1: read by nobody
    std::vector<int> outputs;  ///< per output of the whole model
};

/// Stages that run one after the other on the caller's thread as if they were one engine. Values pass as tensors on the host, whose memory serves
/// the next run. Thread-safe.
class StagedExecutable final : public backend::Executable {
public:
    StagedExecutable(std::vector<StagePart> parts, StageValues values) : parts_(std::move(parts)), values_(std::move(values)) {}

    [[nodiscard]] std::unique_ptr<backend::Request> create_request() override;
    [[nodiscard]] std::int64_t memory_bytes() const override;
    /// Those of the stages, as "STAGE1.NAME".
    [[nodiscard]] std::vector<std::pair<std::string, std::string>> properties() const override;

private:
    const std::vector<StagePart> parts_;
    const StageValues values_;
};

}  // namespace ai_vmm::runtime
