// SPDX-License-Identifier: Apache-2.0
#include "ai_vmm/vmm.hpp"

#include <algorithm>
#include <mutex>
#include <utility>

#include "cache/artifact_store.hpp"
#include "hal/registry.hpp"
#include "optimization/equivalence.hpp"
#include "planning/planner.hpp"
#include "runtime/deployment_engine.hpp"
#include "runtime/thread_account.hpp"
#include "vmm/deployer.hpp"

namespace ai_vmm {
namespace {

/// Errors of the standard library as ours; ours as they are.
template <typename Function>
auto guarded(Function&& function) {
    try {
        return function();
    } catch (const Error&) {
        throw;
    } catch (const std::bad_alloc&) {
        throw Error(ErrorCode::resource_exhausted, ErrorCategory::system, "out of memory");
    } catch (const std::exception& error) {
        throw Error(ErrorCode::internal, ErrorCategory::runtime, error.what());
    }
}

}  // namespace

std::string_view version() noexcept { return AI_VMM_VERSION; }

struct Deployment::Impl {
    std::string name;
    std::string source;
    Deployed deployed;
    std::unique_ptr<runtime::DeploymentEngine> engine;
    runtime::ThreadAccount::Holding threads;
    std::mutex mutex;  // guards `threads` after construction
};

Deployment::Deployment(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Deployment::~Deployment() = default;

std::span<const TensorInfo> Deployment::inputs() const noexcept { return impl_->engine->inputs(); }
std::span<const TensorInfo> Deployment::outputs() const noexcept { return impl_->engine->outputs(); }

TensorMap Deployment::execute(const TensorMap& inputs, const RunOptions& options) {
    return guarded([&] {
        std::vector<Tensor> ordered(impl_->engine->inputs().size());
        impl_->engine->arrange(inputs, ordered);
        std::vector<Tensor> outputs(impl_->engine->outputs().size());
        impl_->engine->run(ordered, outputs, options);
        TensorMap named;
        for (std::size_t i = 0; i < outputs.size(); ++i) named.push_back(impl_->engine->outputs()[i].name, std::move(outputs[i]));
        return named;
    });
}

Tensor Deployment::execute(const Tensor& input, const RunOptions& options) {
    return guarded([&] {
        if (impl_->engine->inputs().size() != 1 || impl_->engine->outputs().empty()) {
            throw Error(ErrorCode::invalid_argument, ErrorCategory::input, "execute(Tensor) is for models with one input and an output",
                        {.expected = "execute(TensorMap)", .found = std::to_string(impl_->engine->inputs().size()) + " inputs", .advice = {}});
        }
        std::vector<Tensor> outputs(impl_->engine->outputs().size());
        impl_->engine->run({&input, 1}, outputs, options);
        return std::move(outputs.front());
    });
}

void Deployment::execute_into(std::span<const Tensor> inputs, std::span<Tensor> outputs, const RunOptions& options) {
    guarded([&] { impl_->engine->run(inputs, outputs, options); });
}

std::future<TensorMap> Deployment::execute_async(TensorMap inputs, RunOptions options) {
    auto promise = std::make_shared<std::promise<TensorMap>>();
    std::future<TensorMap> future = promise->get_future();
    execute_async(
        std::move(inputs),
        [promise](RunResult result) {
            if (result.error) {
                promise->set_exception(result.error);
            } else {
                promise->set_value(std::move(result.outputs));
            }
        },
        std::move(options));
    return future;
}

void Deployment::execute_async(TensorMap inputs, std::function<void(RunResult)> done, RunOptions options) {
    guarded([&] {
        std::vector<Tensor> ordered(impl_->engine->inputs().size());
        impl_->engine->arrange(inputs, ordered);
        impl_->engine->submit(std::move(ordered), std::move(options), std::move(done));
    });
}

std::vector<TensorMap> Deployment::execute_batch(std::span<const TensorMap> batch, const RunOptions& options) {
    return guarded([&] { return impl_->engine->run_batch(batch, options); });
}

TensorMap Deployment::sample_inputs(const TensorMap& given, const std::vector<std::pair<std::string, Shape>>& shapes, std::uint64_t seed) {
    return guarded([&] {
        const std::vector<TensorInfo>& infos = impl_->engine->inputs();
        const ModelProfile& profile = impl_->deployed.profile;
        const auto known = [&](const std::string& name) { return std::ranges::find(infos, name, &TensorInfo::name) != infos.end(); };
        for (const auto& [name, shape] : shapes) {
            if (!known(name)) throw Error(ErrorCode::invalid_argument, ErrorCategory::input, "the model has no input '" + name + "'");
        }
        for (const std::string& name : profile.shape_deciding_inputs) {
            if (given.find(name) != nullptr) continue;
            throw Error(ErrorCode::invalid_argument, ErrorCategory::input, "the values of input '" + name + "' decide shapes, so none are made up",
                        {.expected = "a value for '" + name + "'", .found = {}, .advice = "give that input"});
        }
        constexpr int kKinds = 8;
        std::optional<Error> refusal;
        std::vector<Tensor> set;
        for (int kind = 0; kind < kKinds; ++kind) {
            set = optimization::make_calibration_set(infos, profile, shapes, kind, seed);
            TensorMap inputs;
            for (std::size_t i = 0; i < infos.size(); ++i) {
                const Tensor* tensor = given.find(infos[i].name);
                inputs.push_back(infos[i].name, tensor != nullptr ? *tensor : set[i]);
            }
            for (const auto& [name, tensor] : given) {
                if (!known(name)) inputs.push_back(name, tensor);  // refused by name below
            }
            try {
                static_cast<void>(execute(inputs));
                return inputs;
            } catch (const Error& error) {
                if (error.code() != ErrorCode::internal && error.code() != ErrorCode::invalid_argument) throw;
                if (!refusal) refusal = error;
            }
        }
        std::string tried;
        for (std::size_t i = 0; i < infos.size(); ++i) {
            if (given.find(infos[i].name) == nullptr) tried += (tried.empty() ? "" : ", ") + infos[i].name + to_string(set[i].shape());
        }
        if (tried.empty()) throw *refusal;
        throw Error(
            refusal->code(), refusal->category(), refusal->message(),
            {.expected = refusal->expected(), .found = "generated inputs " + tried, .advice = "give the shapes that the model takes, or inputs"});
    });
}

std::vector<StepTime> Deployment::profile(const TensorMap& inputs, const RunOptions& options) {
    return guarded([&] {
        std::vector<Tensor> ordered(impl_->engine->inputs().size());
        impl_->engine->arrange(inputs, ordered);
        return impl_->engine->profile(ordered, options);
    });
}

DeploymentDescription Deployment::describe() const {
    const Deployed& deployed = impl_->deployed;
    const planning::CandidateKey key = impl_->engine->active()->key();
    DeploymentDescription description;
    description.name = impl_->name;
    description.source = impl_->source;
    description.profile = deployed.profile;
    description.engine = deployed.stages->engine_version(key);
    description.device = key.device;
    description.precision = std::string(to_string(key.precision));
    description.threads = key.threads;
    description.streams = key.streams;
    description.batch = key.batch;
    description.from_cache = deployed.imported;
    description.deploy_ms = deployed.total_ms;
    description.deploy_steps_ms = deployed.steps_ms;
    return description;
}

Explanation Deployment::explain(int columns) const { return ai_vmm::explain(impl_->deployed, columns); }
DeploymentMetrics Deployment::metrics() const { return impl_->engine->metrics(); }

struct VMM::Impl {
    Options options;
    std::shared_ptr<hal::Registry> registry;
    std::shared_ptr<cache::ArtifactStore> store;
    std::shared_ptr<cache::ArtifactStore> backends_store;  ///< of the same folder; apart so that hits and misses count deployments
    std::shared_ptr<runtime::ThreadAccount> account;
    std::unique_ptr<Deployer> deployer;
    mutable std::mutex mutex;  // guards `deployments`
    std::vector<std::weak_ptr<Deployment>> deployments;

    explicit Impl(Options given) : options(std::move(given)) {
        registry = std::make_shared<hal::Registry>(hal::Registry::Options{options.backend_paths, options.load_installed_backends});
        const cache::ArtifactStore::Options folder{options.cache_dir.empty() ? cache::default_directory() : options.cache_dir,
                                                   options.cache_limit_bytes, options.use_cache};
        store = std::make_shared<cache::ArtifactStore>(folder);
        backends_store = std::make_shared<cache::ArtifactStore>(folder);
        account = std::make_shared<runtime::ThreadAccount>(hal::host_cpu().compute_units);
        deployer = std::make_unique<Deployer>(registry, store, backends_store, options.progress);
    }

    std::unique_ptr<Deployment::Impl> start(const ModelSource& source, const Constraints& constraints, std::string name, int thread_budget) {
        auto impl = std::make_unique<Deployment::Impl>();
        impl->deployed = deployer->deploy(source, constraints, thread_budget);
        Deployed& deployed = impl->deployed;
        impl->name = !name.empty() ? std::move(name) : deployed.stages->located().name;
        impl->source = source.bytes ? "<memory>" : source.path.string();
        impl->threads = account->hold(deployed.plan.chosen.threads * deployed.plan.chosen.streams);
        impl->engine = std::make_unique<runtime::DeploymentEngine>(
            runtime::DeploymentEngine::Options{.name = impl->name,
                                               .inputs = deployed.inputs,
                                               .outputs = deployed.outputs,
                                               .fallbacks = deployed.plan.fallbacks,
                                               .promised_latency_ms = deployed.plan.promised_latency_ms,
                                               .batchable = deployed.batchable,
                                               .max_queue = options.max_queue,
                                               .copy = [registry = registry](const Tensor& from, Tensor& to) { registry->copy(from, to); }},
            deployed.chosen, deployed.stages);
        deployed.chosen.reset();  // the engine owns it now
        return impl;
    }

    void enlist(const std::shared_ptr<Deployment>& deployment) {
        const std::lock_guard lock(mutex);
        std::erase_if(deployments, [](const std::weak_ptr<Deployment>& entry) { return entry.expired(); });
        deployments.push_back(deployment);
    }
};

VMM::VMM() : VMM(Options{}) {}
VMM::VMM(Options options) : impl_(guarded([&] { return std::make_shared<Impl>(std::move(options)); })) {}
VMM::~VMM() = default;

Hardware VMM::discover_hardware(bool refresh) {
    return guarded([&] {
        Hardware hardware = impl_->deployer->hardware(refresh);
        for (DeviceInfo& device : hardware.devices) {
            if (device.kind == DeviceKind::cpu) device.scores = hal::measure_host_scores();
        }
        return hardware;
    });
}

std::shared_ptr<Deployment> VMM::deploy(const ModelSource& source, const Constraints& constraints, std::string name) {
    return guarded([&] {
        std::shared_ptr<Deployment> deployment(new Deployment(impl_->start(source, constraints, std::move(name), impl_->account->total())));
        impl_->enlist(deployment);
        return deployment;
    });
}

std::vector<std::shared_ptr<Deployment>> VMM::deploy_all(std::span<const DeployRequest> requests) {
    return guarded([&] {
        std::vector<double> priorities;
        for (const DeployRequest& request : requests) {
            if (!(request.constraints.priority > 0)) {
                throw Error(ErrorCode::invalid_argument, ErrorCategory::input, "a priority must be above 0",
                            {.expected = {}, .found = std::to_string(request.constraints.priority), .advice = {}});
            }
            priorities.push_back(request.constraints.priority);
        }
        const std::vector<planning::ThreadShare> shares = planning::divide_threads(impl_->account->total(), priorities);
        std::vector<std::shared_ptr<Deployment>> deployments;
        for (std::size_t i = 0; i < requests.size(); ++i) {  // an exception lets go of the earlier ones
            const DeployRequest& request = requests[i];
            deployments.emplace_back(new Deployment(impl_->start(request.source, request.constraints, request.name, shares[i].threads)));
        }
        for (const std::shared_ptr<Deployment>& deployment : deployments) impl_->enlist(deployment);
        return deployments;
    });
}

void VMM::undeploy(const std::shared_ptr<Deployment>& deployment) {
    guarded([&] {
        {
            const std::lock_guard lock(impl_->mutex);
            const auto found = std::ranges::find_if(impl_->deployments,
                                                    [&](const std::weak_ptr<Deployment>& entry) { return deployment && entry.lock() == deployment; });
            if (found == impl_->deployments.end()) {
                throw Error(ErrorCode::not_found, ErrorCategory::input, "that deployment is not deployed here",
                            {.expected = "a deployment of this VMM that was not undeployed yet", .found = {}, .advice = {}});
            }
            impl_->deployments.erase(found);
        }
        deployment->impl_->engine->stop();
        const std::lock_guard lock(deployment->impl_->mutex);
        deployment->impl_->threads.release();
    });
}

ModelProfile VMM::inspect(const ModelSource& source) {
    return guarded([&] { return impl_->deployer->inspect(source); });
}

Explanation VMM::plan(const ModelSource& source, const Constraints& constraints, int columns) {
    return guarded([&] { return explain(impl_->deployer->deploy(source, constraints, impl_->account->total()), columns); });
}

std::vector<CandidateOutline> VMM::outlines(const ModelSource& source, const Constraints& constraints) {
    return guarded([&] { return impl_->deployer->outlines(source, constraints); });
}

Tensor VMM::copy(const Tensor& from, const MemoryPlace& place) {
    return guarded([&] {
        if (!from.empty() && from.place() == place) return from;
        Tensor to = Tensor::wanted_in(place);
        impl_->registry->copy(from, to);
        return to;
    });
}

Metrics VMM::metrics() const {
    Metrics metrics;
    std::vector<std::shared_ptr<Deployment>> alive;
    {
        const std::lock_guard lock(impl_->mutex);
        for (const std::weak_ptr<Deployment>& entry : impl_->deployments) {
            if (auto deployment = entry.lock()) alive.push_back(std::move(deployment));
        }
    }
    for (const std::shared_ptr<Deployment>& deployment : alive) metrics.deployments.push_back(deployment->metrics());
    const cache::ArtifactStore::Counters counters = impl_->store->counters();
    metrics.cache_hits = counters.hits;
    metrics.cache_misses = counters.misses;
    metrics.cache_damaged = counters.damaged + impl_->backends_store->counters().damaged;
    metrics.threads_total = impl_->account->total();
    metrics.threads_in_use = impl_->account->in_use();
    return metrics;
}

CacheReport VMM::cache_report() const {
    return guarded([&] { return impl_->store->report(); });
}
std::int64_t VMM::cache_collect(std::optional<std::int64_t> limit_bytes) {
    return guarded([&] { return impl_->store->collect(limit_bytes); });
}
std::int64_t VMM::cache_clear() {
    return guarded([&] { return impl_->store->clear(); });
}

}  // namespace ai_vmm
