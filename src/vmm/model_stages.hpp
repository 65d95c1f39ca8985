// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "graph/reader.hpp"
#include "hal/registry.hpp"
#include "runtime/stage.hpp"

namespace ai_vmm {

/// Compiles and imports the candidates of one model. Reads the model's file only when something must be compiled. Thread-safe.
class ModelStages final : public runtime::StageFactory, public std::enable_shared_from_this<ModelStages> {
public:
    /// @param routes  backend device name per (engine, device id)
    ModelStages(std::shared_ptr<hal::Registry> registry, graph::Located located, std::map<std::pair<std::string, std::string>, std::string> routes,
                bool throughput);

    /// The model, read now if it was not.
    /// @throws Error as graph::read_model(); Error(failed_precondition) the file changed since it was deployed.
    [[nodiscard]] std::shared_ptr<const backend::Model> model();
    [[nodiscard]] const graph::Located& located() const noexcept { return located_; }

    [[nodiscard]] std::shared_ptr<runtime::Stage> make(const planning::CandidateKey& key) override;
    /// Restores an exported stage without reading the model, which its executables may do later. For objects that a shared pointer owns.
    /// @param light  inputs and outputs set, no graph
    [[nodiscard]] std::shared_ptr<runtime::Stage> import_stage(const planning::CandidateKey& key, std::span<const std::byte> blob,
                                                               const backend::Model& light);
    /// The shapes that most executions will have, per input; backends may specialise for them. To be set before anything is compiled.
    void set_typical_shapes(std::vector<Shape> shapes) { typical_shapes_ = std::move(shapes); }
    /// How the model is cut for candidates of an engine and device that name two. To be set before they are made.
    void set_cut(const std::string& engine, const std::string& device, std::vector<planning::PlannedStage> stages);
    /// Frees the graph; model() reads it again, unless an executable that read it again holds it.
    void drop_model();
    [[nodiscard]] backend::Backend& backend_of(const planning::CandidateKey& key) const;
    /// "openvino 2026.4.1", for both engines if the model is cut.
    [[nodiscard]] std::string engine_version(const planning::CandidateKey& key) const;
    [[nodiscard]] const std::vector<Shape>& typical_shapes() const noexcept { return typical_shapes_; }
    /// Of a candidate on one device.
    [[nodiscard]] backend::CompileConfig config_for(const planning::CandidateKey& key) const;
    /// One per device of the candidate, which is not a cut.
    [[nodiscard]] std::vector<backend::CompileConfig> configs_for(const planning::CandidateKey& key) const;

private:
    [[nodiscard]] std::shared_ptr<runtime::Stage> make_cut(const planning::CandidateKey& key, const std::vector<planning::PlannedStage>& stages);

    const std::shared_ptr<hal::Registry> registry_;
    const graph::Located located_;
    const std::map<std::pair<std::string, std::string>, std::string> routes_;
    const bool throughput_;
    std::vector<Shape> typical_shapes_;
    std::map<std::pair<std::string, std::string>, std::vector<planning::PlannedStage>> cuts_;  // by engine and device
    std::mutex mutex_;                                                                         // guards what follows
    std::shared_ptr<const backend::Model> model_;
    std::weak_ptr<const backend::Model> last_;  // what was read and may still be held by executables
    bool may_have_changed_ = false;             // since it was located
};

}  // namespace ai_vmm
