// SPDX-License-Identifier: Apache-2.0
#include "program/program.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <future>
#include <set>
#include <thread>

#include "ai_vmm/error.hpp"
#include "base/hash.hpp"
#include "base/log.hpp"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "program/library_calls.hpp"

namespace ai_vmm::cuda {
namespace {

/// One recording holds no more, so that a cancelled execution stops soon: some milliseconds.
constexpr std::size_t kMostStepsAtOnce = 1024;

/// Inputs, and outputs, of no more bytes are copied in the recording itself: everything then is one launch.
constexpr std::size_t kRecordedBytes = std::size_t{128} << 10;
/// Larger ones go in pieces, so that the copies of the host and of the device overlap.
constexpr std::size_t kPieceBytes = std::size_t{256} << 10;
/// Sets of callers' device addresses that are recorded for.
constexpr std::size_t kMostBound = 4;
constexpr std::size_t kAlignment = 256;

std::size_t size_of(const Value& value) { return static_cast<std::size_t>(bytes(value.type, value.dims)); }

/// Byte address of a placed value's first element.
DevicePtr address(const Schedule& schedule, const std::vector<DevicePtr>& roots, ValueId id) {
    const Place& place = *schedule.places[static_cast<std::size_t>(id)];
    return roots[static_cast<std::size_t>(place.root)] + static_cast<DevicePtr>(place.offset * bits(schedule.graph.value(id).type) / 8);
}

}  // namespace

namespace {

/// Of constants' bytes. Several threads share the work.
/// @param held  those that are on the device, which know theirs
std::map<ValueId, std::string> digests_of(const Schedule& schedule, std::vector<ValueId> constants, const HeldWeights& held) {
    std::ranges::sort(constants, std::greater{}, [&](ValueId id) { return size_of(schedule.graph.value(id)); });
    std::vector<std::string> digests(constants.size());
    std::atomic<std::size_t> next = 0;
    const auto work = [&] {
        for (std::size_t k = next++; k < constants.size(); k = next++) {
            if (const auto weight = held.find(constants[k]); weight != held.end()) {
                digests[k] = weight->second->digest();
                continue;
            }
            const Value& value = schedule.graph.value(constants[k]);
            digests[k] = base::sha256_hex(std::span(value.constant.data, size_of(value)));
        }
    };
    std::vector<std::future<void>> workers;
    const std::size_t most = std::min<std::size_t>({4, std::thread::hardware_concurrency(), constants.size()});
    for (std::size_t k = 1; k < most; ++k) workers.push_back(std::async(std::launch::async, work));
    work();
    for (auto& worker : workers) worker.get();
    std::map<ValueId, std::string> all;
    for (std::size_t k = 0; k < constants.size(); ++k) all[constants[k]] = digests[k];
    return all;
}

}  // namespace

std::map<ValueId, std::string> recipes(const Schedule& schedule, const HeldWeights& held) {
    std::vector<ValueId> constants;
    for (const auto* list : {&schedule.weights, &schedule.preparation_weights}) {
        for (ValueId id : *list) {
            const bool read = std::ranges::any_of(schedule.prepare, [&](const Step& step) {
                return std::ranges::any_of(step.arguments, [&](ValueId argument) {
                    const auto& place = schedule.places[static_cast<std::size_t>(argument)];
                    return place && place->root == id;
                });
            });
            if (read) constants.push_back(id);
        }
    }
    std::map<ValueId, std::string> content = digests_of(schedule, std::move(constants), held);

    std::set<ValueId> by_library;
    for (const Step& step : schedule.prepare) {
        std::string text;
        bool exact = step.kind == Step::Kind::kernel;
        if (exact) text = schedule.kernels[static_cast<std::size_t>(step.index)];
        text += fmt::format("\n{} {} {}", fmt::join(step.launch.grid, ","), fmt::join(step.launch.block, ","), step.launch.limit.value_or(-1));
        for (ValueId id : step.arguments) {
            const Place& place = *schedule.places[static_cast<std::size_t>(id)];
            exact = exact && by_library.count(place.root) == 0;
            text += fmt::format("\n{} {} {}", content[place.root], to_string(schedule.graph.value(id).type), place.offset);
        }
        const std::string digest = base::sha256_hex(text);
        for (std::size_t k = 0; k < step.arguments.size(); ++k) {
            const ValueId root = schedule.places[static_cast<std::size_t>(step.arguments[k])]->root;
            if (schedule.graph.value(root).source == Source::constant) continue;
            content[root] = fmt::format("{} {}", digest, k);
            if (!exact) by_library.insert(root);
        }
    }
    std::map<ValueId, std::string> all;
    for (ValueId root : schedule.prepared) {
        if (by_library.count(root) == 0 && content.count(root) != 0) {
            all[root] = fmt::format("{} of {} bytes", content.at(root), size_of(schedule.graph.value(root)));
        }
    }
    return all;
}

namespace {

/// Runs `work` and says in the log how long it took.
template <typename Work>
auto logged(std::string_view what, const Work& work) {
    const auto begin = std::chrono::steady_clock::now();
    const auto log = [&] {
        base::log_debug(
            fmt::format("cuda: {}: {:.1f} ms", what, std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count()));
    };
    if constexpr (std::is_void_v<decltype(work())>) {
        work();
        log();
    } else {
        auto result = work();
        log();
        return result;
    }
}

}  // namespace

Program::Program(std::shared_ptr<Device> device, Graph graph, std::shared_ptr<WeightStore> weights, Keep keep)
    : device_(std::move(device)),
      weights_(std::move(weights)),
      keep_(keep),
      schedule_(logged("schedule", [&] { return make_schedule(std::move(graph), *device_); })) {
    fixed_.assign(schedule_.graph.values.size(), 0);
    const std::unique_ptr<Stream> stream = device_->create_stream();
    // Weights are on their way while kernels are compiled.
    std::future<void> uploads = std::async(std::launch::async, [&] {
        hold(schedule_.weights, *stream);
        for (const auto& [id, weight] : held_) fixed_[static_cast<std::size_t>(id)] = weight->memory.address;
    });
    logged("kernels", [&] { load_kernels(); });
    logged("weights that were still on their way", [&] { uploads.get(); });
    logged("preparation", [&] { prepare(*stream); });
}

void Program::hold(const std::vector<ValueId>& constants, Stream& stream) {
    std::vector<const Value*> values;
    for (ValueId id : constants) values.push_back(&schedule_.graph.value(id));
    auto uploaded = weights_->upload(values, stream);
    for (std::size_t k = 0; k < constants.size(); ++k) held_[constants[k]] = std::move(uploaded[k]);
}

void Program::load_kernels() {
    if (schedule_.kernels.empty()) return;
    const ModuleSource source = module_source(schedule_);
    module_ = device_->load(source.text);
    for (const std::string& name : source.names) kernels_.push_back(module_->kernel(name));
}

void Program::prepare(Stream& stream) {
    if (keep_ == Keep::everything) {
        hold(schedule_.preparation_weights, stream);
    }
    if (schedule_.prepared.empty()) return;
    recipes_ = recipes(schedule_, held_);
    const std::map<ValueId, std::string>& recipe_of = recipes_;
    std::map<ValueId, std::shared_ptr<PreparedWeight>> made;
    std::map<ValueId, std::shared_ptr<const PreparedWeight>> found;
    for (ValueId id : schedule_.prepared) {
        const auto recipe = recipe_of.find(id);
        if (recipe != recipe_of.end()) found[id] = weights_->find(recipe->second);
    }
    std::erase_if(found, [](const auto& entry) { return entry.second == nullptr; });
    if (found.size() < schedule_.prepared.size()) {
        const Buffer temporary(device_, static_cast<std::size_t>(schedule_.preparation_bytes));
        const Buffer workspace(device_, static_cast<std::size_t>(schedule_.workspace_bytes));
        std::vector<DevicePtr> roots = fixed_;
        std::vector<Buffer> passing;
        const auto add_passing = [&](ValueId id) {
            passing.emplace_back(device_, size_of(schedule_.graph.value(id)));
            roots[static_cast<std::size_t>(id)] = passing.back().get();
        };
        std::vector<ValueId> lasting;
        std::vector<std::size_t> sizes;
        for (ValueId id : schedule_.prepared) {
            if (found.count(id) != 0) {  // others read it: this time it is computed for what depends on it
                add_passing(id);
                continue;
            }
            lasting.push_back(id);
            sizes.push_back(size_of(schedule_.graph.value(id)));
        }
        std::vector<Part> parts = allocate_parts(device_, sizes);
        for (std::size_t k = 0; k < lasting.size(); ++k) {
            roots[static_cast<std::size_t>(lasting[k])] = parts[k].address;
            made[lasting[k]] = std::make_shared<PreparedWeight>(PreparedWeight{.memory = std::move(parts[k]), .bytes = sizes[k]});
        }
        for (std::size_t k = 0; k < schedule_.preparation_weights.size(); ++k) {
            const ValueId id = schedule_.preparation_weights[k];
            const Value& value = schedule_.graph.value(id);
            if (keep_ == Keep::everything) {
                roots[static_cast<std::size_t>(id)] = held_.at(id)->memory.address;
                continue;
            }
            add_passing(id);
            if (size_of(value) != 0) stream.upload(passing.back().get(), value.constant.data, size_of(value));
        }
        for (const auto& [id, offset] : schedule_.preparation_offsets)
            roots[static_cast<std::size_t>(id)] = temporary.get() + static_cast<DevicePtr>(offset);
        enqueue(schedule_.prepare, 0, schedule_.prepare.size(), roots, workspace.get(), stream);
        stream.synchronize();
    }
    for (ValueId id : schedule_.prepared) {
        const auto known = found.find(id);
        if (known != found.end()) {
            prepared_.push_back(known->second);
        } else {
            const auto recipe = recipe_of.find(id);
            prepared_.push_back(recipe == recipe_of.end() ? made.at(id) : weights_->add(recipe->second, made.at(id)));
        }
        fixed_[static_cast<std::size_t>(id)] = prepared_.back()->memory.address;
    }
}

Program::Program(std::shared_ptr<Device> device, StoredProgram stored, std::shared_ptr<WeightStore> weights)
    : device_(std::move(device)), weights_(std::move(weights)), keep_(Keep::what_runs), schedule_(std::move(stored.schedule)) {
    // Weights are on their way while the library's calls are made and kernels loaded.
    std::vector<std::pair<const StoredWeight*, std::shared_ptr<PreparedWeight>>> made;
    std::map<ValueId, std::shared_ptr<const PreparedWeight>> held;
    std::future<void> uploads = std::async(std::launch::async, [&] {
        const std::unique_ptr<Stream> stream = device_->create_stream();
        std::map<std::string, std::size_t> first;  // of equal ones among them
        std::vector<std::size_t> sizes;
        std::vector<std::size_t> missing;
        for (std::size_t k = 0; k < stored.weights.size(); ++k) {
            const StoredWeight& weight = stored.weights[k];
            recipes_[weight.value] = weight.recipe;
            if (!weight.recipe.empty()) {
                held[weight.value] = weights_->find(weight.recipe);
                if (held[weight.value] != nullptr || !first.emplace(weight.recipe, k).second) continue;
            }
            if (weight.bytes.size() != size_of(schedule_.graph.value(weight.value)))
                throw Error(ErrorCode::data_loss, ErrorCategory::compilation, "a stored program needs a weight of another one, which is gone");
            missing.push_back(k);
            sizes.push_back(weight.bytes.size());
        }
        std::vector<Part> parts = allocate_parts(device_, sizes);
        for (std::size_t m = 0; m < missing.size(); ++m) {
            const StoredWeight& weight = stored.weights[missing[m]];
            if (!weight.bytes.empty()) stream->upload(parts[m].address, weight.bytes.data(), weight.bytes.size());
            made.emplace_back(&weight, std::make_shared<PreparedWeight>(PreparedWeight{.memory = std::move(parts[m]), .bytes = sizes[m]}));
        }
        stream->synchronize();
        base::log_debug(fmt::format("cuda: {} bytes of weights of a stored program are there", schedule_.weight_bytes));
    });
    LibraryCalls calls(*device_);
    for (const auto& [node, spec] : schedule_.specs) {
        std::shared_ptr<LibraryCall> call = std::visit([&](const auto& which) { return calls.make(which); }, spec);
        if (!call) throw Error(ErrorCode::data_loss, ErrorCategory::compilation, "a stored program needs a call that the library does not take");
        schedule_.workspace_bytes = std::max(schedule_.workspace_bytes, static_cast<std::int64_t>(call->workspace_bytes()));
        schedule_.calls[node] = std::move(call);
    }
    base::log_debug(fmt::format("cuda: {} library calls of a stored program made", schedule_.specs.size()));
    load_kernels();
    base::log_debug(fmt::format("cuda: {} kernels of a stored program loaded", schedule_.kernels.size()));
    fixed_.assign(schedule_.graph.values.size(), 0);
    uploads.get();
    for (auto& [weight, fresh] : made) held[weight->value] = weight->recipe.empty() ? fresh : weights_->add(weight->recipe, fresh);
    for (const StoredWeight& weight : stored.weights) {
        auto& mine = held[weight.value];
        if (mine == nullptr) mine = weights_->find(weight.recipe);  // an equal one of this program
        prepared_.push_back(mine);
        fixed_[static_cast<std::size_t>(weight.value)] = mine->memory.address;
    }
}

void Program::write_to(std::ostream& out, std::set<std::string>* written) const {
    if (schedule_.has_host_steps())
        throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, "a program with steps on the host is not exported");
    std::vector<ValueId> as_they_are;
    for (ValueId id : schedule_.weights) {
        if (recipes_.count(id) == 0) as_they_are.push_back(id);
    }
    const std::map<ValueId, std::string> digests = digests_of(schedule_, std::move(as_they_are), held_);
    const std::unique_ptr<Stream> stream = device_->create_stream();
    write_program(out, schedule_, [&](ValueId id, std::string& recipe, std::vector<std::byte>& content) {
        const std::size_t size = size_of(schedule_.graph.value(id));
        content.clear();
        if (const auto known = recipes_.find(id); known != recipes_.end()) {
            recipe = known->second;
        } else if (const auto digest = digests.find(id); digest != digests.end()) {  // a constant's recipe is its content
            recipe = fmt::format("{} as it is, {} bytes", digest->second, size);
        }
        if (size == 0 || (written != nullptr && !recipe.empty() && !written->insert(recipe).second)) return;
        content.resize(size);
        stream->download(content.data(), fixed_[static_cast<std::size_t>(id)], size);
        stream->synchronize();
    });
}

std::int64_t Program::weight_bytes() const noexcept {
    return schedule_.weight_bytes + (keep_ == Keep::everything ? schedule_.preparation_weight_bytes : 0);
}

std::vector<DevicePtr> Program::roots(DevicePtr arena) const {
    std::vector<DevicePtr> all = fixed_;
    for (const auto& [id, offset] : schedule_.arena_offsets) all[static_cast<std::size_t>(id)] = arena + static_cast<DevicePtr>(offset);
    return all;
}

void Program::enqueue(const std::vector<Step>& steps, std::size_t begin, std::size_t end, const std::vector<DevicePtr>& roots, DevicePtr workspace,
                      Stream& stream) const {
    const std::lock_guard lock(calls_mutex_);
    std::vector<DevicePtr> pointers;
    std::vector<void*> arguments;
    for (std::size_t s = begin; s < end; ++s) {
        const Step& step = steps[s];
        pointers.clear();
        for (ValueId id : step.arguments) pointers.push_back(address(schedule_, roots, id));
        if (step.kind == Step::Kind::library) {
            schedule_.calls.at(step.index)->run(stream, pointers, workspace);
            continue;
        }
        arguments.clear();
        for (DevicePtr& pointer : pointers) arguments.push_back(&pointer);
        std::int64_t limit = step.launch.limit.value_or(0);
        if (step.launch.limit) arguments.push_back(&limit);
        stream.launch(kernels_[static_cast<std::size_t>(step.index)], step.launch, arguments);
    }
}

MemoryEstimate memory_of(const Schedule& schedule, Program::Keep keep) {
    return {.weights = weight_footprint(schedule, keep == Program::Keep::everything),
            .arena = allocation_bytes(schedule.arena_bytes),
            .workspace = allocation_bytes(schedule.workspace_bytes),
            .staging = Execution::staging_bytes(schedule),
            .context = 0};
}

std::int64_t Execution::staging_bytes(const Schedule& schedule) {
    std::int64_t total = 0;
    for (const auto* ids : {&schedule.graph.inputs, &schedule.graph.outputs}) {
        for (ValueId id : *ids) total += static_cast<std::int64_t>(aligned(size_of(schedule.graph.value(id))));
    }
    return total;
}

Execution::Execution(std::shared_ptr<const Program> program) : program_(std::move(program)) {
    const Schedule& schedule = program_->schedule();
    Device& device = program_->device();
    stream_ = device.create_stream();
    arena_ = Buffer(program_->device_, static_cast<std::size_t>(schedule.arena_bytes));
    workspace_ = Buffer(program_->device_, static_cast<std::size_t>(schedule.workspace_bytes));
    in_arena_.roots = program_->roots(arena_.get());
    in_arena_.segments = segments();
    for (ValueId id : schedule.graph.inputs) {
        input_bytes_.push_back(size_of(schedule.graph.value(id)));
        input_at_.push_back(static_cast<std::size_t>(schedule.arena_offsets.at(id)));
        inputs_total_ = std::max(inputs_total_, input_at_.back() + aligned(input_bytes_.back()));
    }
    std::size_t total = inputs_total_;
    for (ValueId id : schedule.graph.outputs) {
        const auto found = schedule.arena_offsets.find(schedule.places[static_cast<std::size_t>(id)]->root);
        output_bytes_.push_back(size_of(schedule.graph.value(id)));
        output_at_.push_back(found == schedule.arena_offsets.end() ? 0 : static_cast<std::size_t>(found->second));
        if (found != schedule.arena_offsets.end()) total = std::max(total, output_at_.back() + aligned(output_bytes_.back()));
    }
    outputs_total_ = total - inputs_total_;
    for (std::size_t k = 0; k < output_at_.size(); ++k) {
        if (schedule.arena_offsets.count(schedule.places[static_cast<std::size_t>(schedule.graph.outputs[k])]->root) != 0) continue;
        output_at_[k] = total;
        total += aligned(output_bytes_[k]);
    }
    // Small outputs go to the host in one copy, with what lies between them: nothing writes that later.
    for (std::size_t k = 0; k < output_at_.size() && outputs_total_ <= kRecordedBytes; ++k) {
        const std::size_t end = output_at_[k] + output_bytes_[k], next = aligned(end);
        if (output_bytes_[k] != 0 && next <= inputs_total_ + outputs_total_) stream_->fill(arena_.get() + end, 0, next - end);
    }
    if (total != 0) staging_ = static_cast<std::byte*>(device.allocate_pinned(total));
}

Execution::~Execution() {
    if (staging_ != nullptr) program_->device().release_pinned(staging_);
}

std::vector<Execution::Segment> Execution::segments() const {
    const Schedule& schedule = program_->schedule();
    std::vector<Segment> all;
    std::size_t begin = 0;
    for (std::size_t s = 0; s <= schedule.steps.size(); ++s) {
        const bool host = s < schedule.steps.size() && schedule.steps[s].kind == Step::Kind::host;
        if (!host && s < schedule.steps.size() && s - begin < kMostStepsAtOnce) continue;
        if (s > begin) all.push_back({begin, s, false, nullptr});
        if (host) all.push_back({s, s + 1, true, nullptr});
        begin = host ? s + 1 : s;
    }
    return all;
}

std::unique_ptr<RecordedGraph> Execution::record(const std::function<void()>& work) {
    const auto begin = std::chrono::steady_clock::now();
    stream_->begin_recording();
    try {
        work();
    } catch (...) {
        try {
            (void)stream_->end_recording();
        } catch (const std::exception&) {  // the first failure is the one to report
        }
        throw;
    }
    std::unique_ptr<RecordedGraph> recorded = stream_->end_recording();
    base::log_debug(
        fmt::format("cuda: recorded in {:.1f} ms", std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count()));
    return recorded;
}

void Execution::run_host(const Step& step, const std::vector<DevicePtr>& roots) {
    const Schedule& schedule = program_->schedule();
    const Node& node = schedule.graph.nodes[static_cast<std::size_t>(step.index)];
    std::vector<std::vector<std::byte>> memory;
    const auto arrays = [&](const std::vector<ValueId>& ids, bool fetch) {
        std::vector<HostArray> all;
        for (ValueId id : ids) {
            const Value& value = schedule.graph.value(id);
            memory.emplace_back(std::max<std::size_t>(size_of(value), 1));
            if (fetch && size_of(value) != 0) stream_->download(memory.back().data(), address(schedule, roots, id), size_of(value));
            all.push_back({value.type, value.dims, memory.back().data()});
        }
        return all;
    };
    const std::vector<HostArray> inputs = arrays(node.inputs, true);
    std::vector<HostArray> outputs = arrays(node.outputs, false);
    stream_->synchronize();
    std::get<HostCall>(node.what).run(inputs, outputs);
    for (std::size_t k = 0; k < outputs.size(); ++k) {
        if (const std::size_t size = size_of(schedule.graph.value(node.outputs[k])); size != 0)
            stream_->upload(address(schedule, roots, node.outputs[k]), outputs[k].data, size);
    }
    stream_->synchronize();
}

void Execution::stop_if_cancelled() {
    if (!cancelled_.exchange(false)) return;
    stream_->synchronize();
    throw Error(ErrorCode::cancelled, ErrorCategory::runtime, "the execution was cancelled");
}

void Execution::run_segments(Bound& bound) {
    const Schedule& schedule = program_->schedule();
    for (Segment& segment : bound.segments) {
        stop_if_cancelled();
        // Long programs are waited for piece by piece: what is launched can't be called back.
        if (bound.segments.size() > 2) stream_->synchronize();
        if (segment.host) {
            run_host(schedule.steps[segment.begin], bound.roots);
            continue;
        }
        const auto enqueue = [&] { program_->enqueue(schedule.steps, segment.begin, segment.end, bound.roots, workspace_.get(), *stream_); };
        if (!program_->device().capabilities().recording) {
            enqueue();
            continue;
        }
        if (!segment.recording) segment.recording = record(enqueue);
        stream_->launch(*segment.recording);
    }
}

void Execution::run_call() {
    stop_if_cancelled();
    if (!call_) {
        const Schedule& schedule = program_->schedule();
        call_ = record([&] {
            if (inputs_total_ != 0 && inputs_total_ <= kRecordedBytes) stream_->upload(arena_.get(), staging_, inputs_total_);
            program_->enqueue(schedule.steps, 0, schedule.steps.size(), in_arena_.roots, workspace_.get(), *stream_);
            if (outputs_total_ != 0 && outputs_total_ <= kRecordedBytes)
                stream_->download(staging_ + inputs_total_, arena_.get() + inputs_total_, outputs_total_);
        });
    }
    stream_->launch(*call_);
}

Execution::Bound& Execution::bound_for(std::span<const Endpoint> inputs) {
    const Schedule& schedule = program_->schedule();
    wanted_.assign(inputs.size(), 0);
    for (std::size_t k = 0; k < inputs.size(); ++k) {
        // Kernels and libraries read as much at once as the arena's alignment allows.
        const bool direct = inputs[k].on_device() && inputs[k].owner == nullptr && inputs[k].device % kAlignment == 0 && input_bytes_[k] != 0;
        if (direct) wanted_[k] = inputs[k].device;
    }
    if (std::all_of(wanted_.begin(), wanted_.end(), [](DevicePtr pointer) { return pointer == 0; })) return in_arena_;
    auto found = std::find_if(elsewhere_.begin(), elsewhere_.end(), [&](const Bound& bound) { return bound.inputs == wanted_; });
    if (found == elsewhere_.end()) {
        if (elsewhere_.size() >= kMostBound) elsewhere_.pop_back();
        found = elsewhere_.insert(elsewhere_.begin(), Bound{.inputs = wanted_, .roots = {}, .segments = {}, .uses = 0});
    }
    elsewhere_.splice(elsewhere_.begin(), elsewhere_, found);
    // To record costs more than a copy: worth it for addresses that come again.
    if (++found->uses < 2) return in_arena_;
    if (found->roots.empty()) {
        found->roots = in_arena_.roots;
        for (std::size_t k = 0; k < wanted_.size(); ++k) {
            if (wanted_[k] != 0) found->roots[static_cast<std::size_t>(schedule.graph.inputs[k])] = wanted_[k];
        }
        found->segments = segments();
    }
    return *found;
}

void Execution::take_in(std::span<const Endpoint> inputs, const Bound& bound, bool uploads_recorded) {
    for (std::size_t k = 0; k < inputs.size(); ++k) {
        const std::size_t size = input_bytes_[k];
        if (size == 0 || (!bound.inputs.empty() && bound.inputs[k] != 0)) continue;
        const DevicePtr to = arena_.get() + input_at_[k];
        if (inputs[k].on_device()) {
            if (inputs[k].owner != nullptr) {
                stream_->copy_across(to, program_->device(), inputs[k].device, *inputs[k].owner, size);
            } else {
                stream_->copy(to, inputs[k].device, size);
            }
            continue;
        }
        const auto* const from = static_cast<const std::byte*>(inputs[k].host);
        if (uploads_recorded) {
            std::memcpy(staging_ + input_at_[k], from, size);
        } else if (size > kPieceBytes && program_->device().is_pinned(from)) {
            stream_->upload(to, from, size);
        } else {
            // A piece is on its way while the next one is copied.
            for (std::size_t at = 0; at < size; at += kPieceBytes) {
                const std::size_t part = std::min(kPieceBytes, size - at);
                std::memcpy(staging_ + input_at_[k] + at, from + at, part);
                stream_->upload(to + at, staging_ + input_at_[k] + at, part);
            }
        }
    }
}

void Execution::give_out(std::span<const Endpoint> outputs, bool downloads_recorded) {
    const Schedule& schedule = program_->schedule();
    pieces_.clear();
    std::size_t copied = 0, waiting = 0;
    const auto copy_up_to = [&](std::size_t end) {
        for (; copied < end; ++copied) std::memcpy(pieces_[copied].to, pieces_[copied].from, pieces_[copied].bytes);
    };
    for (std::size_t k = 0; k < outputs.size(); ++k) {
        const std::size_t size = output_bytes_[k];
        if (size == 0) continue;
        const DevicePtr from = address(schedule, in_arena_.roots, schedule.graph.outputs[k]);
        if (outputs[k].on_device()) {
            if (outputs[k].owner != nullptr) {
                stream_->copy_across(outputs[k].device, *outputs[k].owner, from, program_->device(), size);
            } else {
                stream_->copy(outputs[k].device, from, size);
            }
            continue;
        }
        auto* const to = static_cast<std::byte*>(outputs[k].host);
        const bool recorded = downloads_recorded && output_at_[k] < inputs_total_ + outputs_total_;
        if (!recorded && size > kPieceBytes && program_->device().is_pinned(to)) {
            stream_->download(to, from, size);
            continue;
        }
        for (std::size_t at = 0; at < size; at += kPieceBytes) {
            const std::size_t part = std::min(kPieceBytes, size - at);
            // What has arrived is copied while the next pieces are on their way.
            const std::size_t arrived = waiting >= kPieceBytes ? pieces_.size() : 0;
            if (arrived != 0) {
                stream_->synchronize();
                waiting = 0;
            }
            if (!recorded) {
                stream_->download(staging_ + output_at_[k] + at, from + at, part);
                waiting += part;
            }
            pieces_.push_back({to + at, staging_ + output_at_[k] + at, part});
            copy_up_to(arrived);
        }
    }
    stream_->synchronize();
    copy_up_to(pieces_.size());
}

void Execution::run(std::span<const Endpoint> inputs, std::span<const Endpoint> outputs) {
    cancelled_ = false;
    bool on_host = true, waits = false;
    for (const auto& ends : {inputs, outputs}) {
        for (const Endpoint& end : ends) {
            if (!end.on_device()) continue;
            on_host = false;
            if (end.owner == nullptr) {
                waits = true;
            } else {
                end.owner->synchronize();
            }
        }
    }
    if (waits) stream_->wait_for_default();
    Bound& bound = bound_for(inputs);
    const bool one_call =
        on_host && in_arena_.segments.size() == 1 && !in_arena_.segments.front().host && program_->device().capabilities().recording;
    take_in(inputs, bound, one_call && inputs_total_ <= kRecordedBytes);
    if (one_call) {
        run_call();
    } else {
        run_segments(bound);
    }
    give_out(outputs, one_call && outputs_total_ <= kRecordedBytes);
    ran_ = true;
    if (cancelled_.exchange(false)) throw Error(ErrorCode::cancelled, ErrorCategory::runtime, "the execution was cancelled");
}

void Execution::run(std::span<const void* const> inputs, std::span<void* const> outputs) {
    endpoints_.resize(inputs.size() + outputs.size());
    for (std::size_t k = 0; k < inputs.size(); ++k) endpoints_[k] = {.host = const_cast<void*>(inputs[k])};
    for (std::size_t k = 0; k < outputs.size(); ++k) endpoints_[inputs.size() + k] = {.host = outputs[k]};
    run(std::span<const Endpoint>(endpoints_).first(inputs.size()), std::span<const Endpoint>(endpoints_).last(outputs.size()));
}

double Execution::replay_us() {
    (void)stream_->lap_us();
    run_segments(in_arena_);
    return stream_->lap_us();
}

std::vector<std::pair<std::string, double>> Execution::profile() {
    // Alone, a launch takes longer than most kernels: each step is recorded many times over, and the whole divided.
    constexpr int kTimes = 20;
    const Schedule& schedule = program_->schedule();
    const bool recording = program_->device().capabilities().recording;
    std::vector<std::pair<std::string, double>> times;
    (void)stream_->lap_us();
    for (std::size_t s = 0; s < schedule.steps.size(); ++s) {
        const Step& step = schedule.steps[s];
        double us = 0;
        if (step.kind == Step::Kind::host) {
            run_host(step, in_arena_.roots);
            us = stream_->lap_us();
        } else if (!recording) {
            program_->enqueue(schedule.steps, s, s + 1, in_arena_.roots, workspace_.get(), *stream_);
            us = stream_->lap_us();
        } else {
            stream_->begin_recording();
            for (int i = 0; i < kTimes; ++i) program_->enqueue(schedule.steps, s, s + 1, in_arena_.roots, workspace_.get(), *stream_);
            const std::unique_ptr<RecordedGraph> graph = stream_->end_recording();
            std::array<double, 3> laps{};  // the median, since one of them may be held up
            stream_->launch(*graph);
            (void)stream_->lap_us();
            for (double& lap : laps) {
                stream_->launch(*graph);
                lap = stream_->lap_us() / kTimes;
            }
            std::ranges::sort(laps);
            us = laps[1];
        }
        times.emplace_back(step.label, us);
    }
    return times;
}

}  // namespace ai_vmm::cuda
