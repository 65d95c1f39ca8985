// SPDX-License-Identifier: Apache-2.0
#include "vmm/model_stages.hpp"

#include <algorithm>

#include "graph/cutter.hpp"
#include "runtime/staged_executable.hpp"

namespace ai_vmm {

ModelStages::ModelStages(std::shared_ptr<hal::Registry> registry, graph::Located located,
                         std::map<std::pair<std::string, std::string>, std::string> routes, bool throughput)
    : registry_(std::move(registry)), located_(std::move(located)), routes_(std::move(routes)), throughput_(throughput) {}

std::shared_ptr<const backend::Model> ModelStages::model() {
    const std::lock_guard lock(mutex_);
    if (!model_) model_ = last_.lock();
    if (!model_) {
        if (may_have_changed_) {
            ModelSource source(located_.path);
            source.bytes = located_.bytes;
            if (graph::locate(source).content_hash != located_.content_hash) {
                throw Error(ErrorCode::failed_precondition, ErrorCategory::compilation,
                            "the model changed on disk since it was deployed: " + located_.path.string(),
                            {.expected = "content " + located_.content_hash, .found = {}, .advice = "deploy it again"});
            }
        }
        model_ = std::make_shared<const backend::Model>(graph::read_model(located_));
        may_have_changed_ = true;
        last_ = model_;
    }
    return model_;
}

void ModelStages::drop_model() {
    const std::lock_guard lock(mutex_);
    model_.reset();
}

backend::Backend& ModelStages::backend_of(const planning::CandidateKey& key) const {
    backend::Backend* backend = registry_->find(key.engine);
    if (backend == nullptr) throw Error(ErrorCode::unavailable, ErrorCategory::compilation, "the backend '" + key.engine + "' is not loaded");
    return *backend;
}

backend::CompileConfig ModelStages::config_for(const planning::CandidateKey& key) const {
    const auto route = routes_.find({key.engine, key.device});
    if (route == routes_.end()) {
        throw Error(ErrorCode::unavailable, ErrorCategory::compilation,
                    "the backend '" + key.engine + "' does not reach the device '" + key.device + "'");
    }
    backend::CompileConfig config{.device = route->second,
                                  .precision = key.precision,
                                  .threads = key.threads,
                                  .streams = key.streams,
                                  .throughput = throughput_ || key.streams > 1,
                                  .typical_shapes = typical_shapes_};
    for (Shape& shape : config.typical_shapes) {
        if (!shape.empty()) shape[0] *= key.batch;
    }
    return config;
}

std::vector<backend::CompileConfig> ModelStages::configs_for(const planning::CandidateKey& key) const {
    const std::vector<std::string> devices = planning::devices_of(key.device);
    std::vector<backend::CompileConfig> configs;
    for (const std::string& device : devices) {
        planning::CandidateKey own = key;
        own.device = device;
        own.streams = std::max(1, key.streams / static_cast<int>(devices.size()));
        configs.push_back(config_for(own));
        configs.back().throughput = throughput_ || key.streams > 1;
    }
    return configs;
}

void ModelStages::set_cut(const std::string& engine, const std::string& device, std::vector<planning::PlannedStage> stages) {
    cuts_[{engine, device}] = std::move(stages);
}

std::string ModelStages::engine_version(const planning::CandidateKey& key) const {
    const auto version = [this](const std::string& engine) { return engine + " " + backend_of({.engine = engine}).engine_version(); };
    const auto cut = cuts_.find({key.engine, key.device});
    if (cut == cuts_.end()) return version(key.engine);
    std::string text;
    std::vector<std::string> told;
    for (const planning::PlannedStage& stage : cut->second) {
        if (std::ranges::find(told, stage.engine) != told.end()) continue;
        told.push_back(stage.engine);
        text += (text.empty() ? "" : " + ") + version(stage.engine);
    }
    return text;
}

std::shared_ptr<runtime::Stage> ModelStages::make_cut(const planning::CandidateKey& key, const std::vector<planning::PlannedStage>& stages) {
    const std::shared_ptr<const backend::Model> whole = model();
    const graph::Cutter cutter(*whole, typical_shapes_);
    std::vector<int> stage_of(cutter.groups().size(), -1);
    for (std::size_t s = 0; s < stages.size(); ++s) {
        for (int node : stages[s].nodes) {
            if (static_cast<std::size_t>(node) < stage_of.size()) stage_of[static_cast<std::size_t>(node)] = static_cast<int>(s);
        }
    }
    if (std::ranges::find(stage_of, -1) != stage_of.end())
        throw Error(ErrorCode::failed_precondition, ErrorCategory::compilation, "the plan cuts another model than this one");
    graph::Cut cut = cutter.cut(stage_of);
    runtime::StageValues values{.count = cut.values, .inputs = std::move(cut.inputs), .outputs = std::move(cut.outputs)};

    // Shapes that most executions will have, from stage to stage as far as shapes alone tell them.
    std::vector<std::optional<Shape>> shapes(static_cast<std::size_t>(values.count));
    for (std::size_t k = 0; k < values.inputs.size() && k < typical_shapes_.size(); ++k) {
        if (values.inputs[k] < 0) continue;
        shapes[static_cast<std::size_t>(values.inputs[k])] = typical_shapes_[k];
        if (!typical_shapes_[k].empty()) shapes[static_cast<std::size_t>(values.inputs[k])]->front() *= key.batch;
    }
    std::vector<runtime::StagePart> parts;
    for (std::size_t s = 0; s < stages.size(); ++s) {
        graph::CutStage& stage = cut.stages[s];
        planning::CandidateKey own = key;
        own.engine = stages[s].engine;
        own.device = stages[s].device;
        // What the accelerator leaves over stays exact.
        if (!key.device.starts_with(own.device + "+")) own.precision = Precision::f32;
        backend::CompileConfig config = config_for(own);
        config.typical_shapes.clear();
        if (std::ranges::all_of(stage.inputs, [&](int value) { return shapes[static_cast<std::size_t>(value)].has_value(); })) {
            for (int value : stage.inputs) config.typical_shapes.push_back(*shapes[static_cast<std::size_t>(value)]);
            const std::vector<Shape> results = graph::output_shapes(stage.model, config.typical_shapes);
            for (std::size_t k = 0; k < results.size(); ++k) shapes[static_cast<std::size_t>(stage.outputs[k])] = results[k];
        }
        const std::string where = own.engine + " on " + own.device;
        try {
            parts.push_back({backend_of(own).compile(stage.model, config), where, std::move(stage.inputs), std::move(stage.outputs)});
        } catch (const Error& error) {
            throw Error(error.code(), error.category(),
                        "stage " + std::to_string(s + 1) + " of " + std::to_string(stages.size()) + ", " + where + ": " + error.message(),
                        {.expected = error.expected(), .found = error.found(), .advice = error.advice()});
        }
    }
    return std::make_shared<runtime::Stage>(key, std::make_shared<runtime::StagedExecutable>(std::move(parts), std::move(values)), key.streams);
}

std::shared_ptr<runtime::Stage> ModelStages::make(const planning::CandidateKey& key) {
    if (const auto cut = cuts_.find({key.engine, key.device}); cut != cuts_.end()) return make_cut(key, cut->second);
    std::vector<std::shared_ptr<backend::Executable>> replicas;
    for (const backend::CompileConfig& config : configs_for(key)) replicas.emplace_back(backend_of(key).compile(*model(), config));
    return std::make_shared<runtime::Stage>(key, std::move(replicas), key.streams);
}

std::shared_ptr<runtime::Stage> ModelStages::import_stage(const planning::CandidateKey& key, std::span<const std::byte> blob,
                                                          const backend::Model& light) {
    {
        const std::lock_guard lock(mutex_);
        may_have_changed_ = true;  // it will be read later, if at all
    }
    backend::Model model = light;
    model.read_again = [stages = shared_from_this()] {
        std::shared_ptr<const backend::Model> whole = stages->model();
        stages->drop_model();
        return whole;
    };
    std::vector<std::shared_ptr<backend::Executable>> replicas;
    for (const backend::CompileConfig& config : configs_for(key)) replicas.emplace_back(backend_of(key).import_blob(blob, model, config));
    return std::make_shared<runtime::Stage>(key, std::move(replicas), key.streams, true);
}

}  // namespace ai_vmm
