// SPDX-License-Identifier: Apache-2.0
/// A model compiled for the shapes that most executions have, beside one for all others.
#pragma once

#include <functional>
#include <iosfwd>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ai_vmm/backend/backend.hpp"
#include "executable.hpp"

namespace ai_vmm::openvino {

/// As kBlobFormat, of blobs that hold both forms.
inline constexpr std::string_view kSpecialisedBlobFormat = "AIVMM-OS1";

/// OpenVINO plans memory and picks kernels for fixed shapes ahead of time and for open ones at every new shape. This runs inputs of the typical
/// shapes on a model fixed to them and everything else on the general one, which is compiled when it is first needed (or exported).
class SpecialisedExecutable final : public backend::Executable {
public:
    using MakeGeneral = std::function<std::unique_ptr<openvino::Executable>()>;

    /// @param shapes  typical shape per Model::inputs
    SpecialisedExecutable(std::vector<Shape> shapes, std::unique_ptr<openvino::Executable> fixed, MakeGeneral make_general);

    [[nodiscard]] std::unique_ptr<backend::Request> create_request() override;
    [[nodiscard]] std::int64_t memory_bytes() const override;
    [[nodiscard]] std::vector<std::pair<std::string, std::string>> properties() const override { return fixed_->properties(); }
    /// Writes both; the general one is compiled for it if it was not.
    void export_blob(std::ostream& out) const override;

    /// Compiled now if it was not; the reference stays valid as long as this. Thread-safe.
    [[nodiscard]] openvino::Executable& general() const;
    [[nodiscard]] const std::vector<Shape>& shapes() const noexcept { return shapes_; }

private:
    const std::vector<Shape> shapes_;
    const std::unique_ptr<openvino::Executable> fixed_;
    mutable std::mutex mutex_;  // guards the two below
    mutable MakeGeneral make_general_;
    mutable std::unique_ptr<openvino::Executable> general_;
};

/// The parts of what SpecialisedExecutable::export_blob() wrote: shapes, fixed, general. Nothing if `blob` is not of that kind.
/// @throws Error(data_loss) cut off.
struct SpecialisedBlob {
    std::vector<Shape> shapes;
    std::span<const std::byte> fixed;
    std::span<const std::byte> general;
};
[[nodiscard]] std::optional<SpecialisedBlob> split_specialised(std::span<const std::byte> blob);

}  // namespace ai_vmm::openvino
