// SPDX-License-Identifier: Apache-2.0
#include "vmm/model_stages.hpp"

namespace ai_vmm {

ModelStages::ModelStages(std::shared_ptr<hal::Registry> registry, graph::Located located,
                         std::map<std::pair<std::string, std::string>, std::string> routes, bool throughput)
    : registry_(std::move(registry)), located_(std::move(located)), routes_(std::move(routes)), throughput_(throughput) {}

std::shared_ptr<const backend::Model> ModelStages::model() {
    const std::lock_guard lock(mutex_);
    if (!model_) {
        if (was_read_) {
            ModelSource source(located_.path);
            source.bytes = located_.bytes;
            if (graph::locate(source).content_hash != located_.content_hash) {
                throw Error(ErrorCode::failed_precondition, ErrorCategory::compilation,
                            "the model changed on disk since it was deployed: " + located_.path.string(),
                            {.expected = "content " + located_.content_hash, .found = {}, .advice = "deploy it again"});
            }
        }
        model_ = std::make_shared<const backend::Model>(graph::read_model(located_));
        was_read_ = true;
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

std::shared_ptr<runtime::Stage> ModelStages::make(const planning::CandidateKey& key) {
    const backend::CompileConfig config = config_for(key);
    std::shared_ptr<backend::Executable> executable = backend_of(key).compile(*model(), config);
    return std::make_shared<runtime::Stage>(key, std::move(executable), key.streams);
}

std::shared_ptr<runtime::Stage> ModelStages::import_stage(const planning::CandidateKey& key, std::span<const std::byte> blob,
                                                          const backend::Model& light) {
    std::shared_ptr<backend::Executable> executable = backend_of(key).import_blob(blob, light, config_for(key));
    return std::make_shared<runtime::Stage>(key, std::move(executable), key.streams, true);
}

}  // namespace ai_vmm
