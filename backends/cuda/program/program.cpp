// SPDX-License-Identifier: Apache-2.0
#include "program/program.hpp"

#include <algorithm>
#include <cstring>

#include "ai_vmm/error.hpp"

namespace ai_vmm::cuda {
namespace {

/// One recording holds no more, so that a cancelled execution stops soon: some milliseconds.
constexpr std::size_t kMostStepsAtOnce = 1024;

std::size_t aligned(std::int64_t size) { return (static_cast<std::size_t>(size) + 255) / 256 * 256; }

std::size_t size_of(const Value& value) { return static_cast<std::size_t>(bytes(value.type, value.dims)); }

/// Byte address of a placed value's first element.
DevicePtr address(const Schedule& schedule, const std::vector<DevicePtr>& roots, ValueId id) {
    const Place& place = *schedule.places[static_cast<std::size_t>(id)];
    return roots[static_cast<std::size_t>(place.root)] + static_cast<DevicePtr>(place.offset * bits(schedule.graph.value(id).type) / 8);
}

}  // namespace

DevicePtr WeightStore::upload(const Value& value, Stream& stream) {
    const std::lock_guard lock(mutex_);
    if (const auto found = buffers_.find(value.constant.data); found != buffers_.end()) return found->second.first.get();
    Buffer buffer(device_, size_of(value));
    if (buffer.bytes() != 0) stream.upload(buffer.get(), value.constant.data, buffer.bytes());
    // The copy reads pageable memory: it is over before the caller may free the constant.
    stream.synchronize();
    bytes_ += static_cast<std::int64_t>(aligned(static_cast<std::int64_t>(buffer.bytes())));
    const DevicePtr pointer = buffer.get();
    buffers_.emplace(value.constant.data, std::pair(std::move(buffer), value.constant.owner));
    return pointer;
}

std::int64_t WeightStore::bytes() const {
    const std::lock_guard lock(mutex_);
    return bytes_;
}

Program::Program(std::shared_ptr<Device> device, Graph graph, std::shared_ptr<WeightStore> weights)
    : device_(std::move(device)), weights_(std::move(weights)), schedule_(make_schedule(std::move(graph), *device_)) {
    if (!schedule_.kernels.empty()) {
        const ModuleSource source = module_source(schedule_);
        module_ = device_->load(source.text);
        for (const std::string& name : source.names) kernels_.push_back(module_->kernel(name));
    }
    fixed_.assign(schedule_.graph.values.size(), 0);
    const std::unique_ptr<Stream> stream = device_->create_stream();
    for (ValueId id : schedule_.weights) fixed_[static_cast<std::size_t>(id)] = weights_->upload(schedule_.graph.value(id), *stream);
    for (ValueId id : schedule_.prepared) {
        prepared_.emplace_back(device_, size_of(schedule_.graph.value(id)));
        fixed_[static_cast<std::size_t>(id)] = prepared_.back().get();
    }
    if (!schedule_.prepare.empty()) {
        const Buffer temporary(device_, static_cast<std::size_t>(schedule_.preparation_bytes));
        const Buffer workspace(device_, static_cast<std::size_t>(schedule_.workspace_bytes));
        std::vector<DevicePtr> roots = fixed_;
        for (const auto& [id, offset] : schedule_.preparation_offsets)
            roots[static_cast<std::size_t>(id)] = temporary.get() + static_cast<DevicePtr>(offset);
        enqueue(schedule_.prepare, 0, schedule_.prepare.size(), roots, workspace.get(), *stream);
        stream->synchronize();
    }
}

std::int64_t Program::memory_bytes() const noexcept { return schedule_.weight_bytes + schedule_.arena_bytes + schedule_.workspace_bytes; }

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
        stream.launch(kernels_[static_cast<std::size_t>(step.index)], step.launch, arguments);
    }
}

Execution::Execution(std::shared_ptr<const Program> program) : program_(std::move(program)) {
    const Schedule& schedule = program_->schedule();
    Device& device = program_->device();
    stream_ = device.create_stream();
    arena_ = Buffer(program_->device_, static_cast<std::size_t>(schedule.arena_bytes));
    workspace_ = Buffer(program_->device_, static_cast<std::size_t>(schedule.workspace_bytes));
    roots_ = program_->roots(arena_.get());
    std::size_t total = 0;
    for (ValueId id : schedule.graph.inputs) {
        input_at_.push_back(total);
        total += aligned(bytes(schedule.graph.value(id).type, schedule.graph.value(id).dims));
    }
    for (ValueId id : schedule.graph.outputs) {
        output_at_.push_back(total);
        total += aligned(bytes(schedule.graph.value(id).type, schedule.graph.value(id).dims));
    }
    if (total != 0) staging_ = static_cast<std::byte*>(device.allocate_pinned(total));
    std::size_t begin = 0;
    for (std::size_t s = 0; s <= schedule.steps.size(); ++s) {
        const bool host = s < schedule.steps.size() && schedule.steps[s].kind == Step::Kind::host;
        if (!host && s < schedule.steps.size() && s - begin < kMostStepsAtOnce) continue;
        if (s > begin) segments_.push_back({begin, s, false, nullptr});
        if (host) segments_.push_back({s, s + 1, true, nullptr});
        begin = host ? s + 1 : s;
    }
}

Execution::~Execution() {
    if (staging_ != nullptr) program_->device().release_pinned(staging_);
}

void Execution::run_host(const Step& step) {
    const Schedule& schedule = program_->schedule();
    const Node& node = schedule.graph.nodes[static_cast<std::size_t>(step.index)];
    std::vector<std::vector<std::byte>> memory;
    const auto arrays = [&](const std::vector<ValueId>& ids, bool fetch) {
        std::vector<HostArray> all;
        for (ValueId id : ids) {
            const Value& value = schedule.graph.value(id);
            memory.emplace_back(std::max<std::size_t>(size_of(value), 1));
            if (fetch && size_of(value) != 0) stream_->download(memory.back().data(), address(schedule, roots_, id), size_of(value));
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
            stream_->upload(address(schedule, roots_, node.outputs[k]), outputs[k].data, size);
    }
    stream_->synchronize();
}

void Execution::run_segments() {
    const Schedule& schedule = program_->schedule();
    for (Segment& segment : segments_) {
        if (cancelled_.exchange(false)) {
            stream_->synchronize();
            throw Error(ErrorCode::cancelled, ErrorCategory::runtime, "the execution was cancelled");
        }
        // Long programs are waited for piece by piece: what is launched can't be called back.
        if (segments_.size() > 2) stream_->synchronize();
        if (segment.host) {
            run_host(schedule.steps[segment.begin]);
            continue;
        }
        if (!program_->device().capabilities().recording) {
            program_->enqueue(schedule.steps, segment.begin, segment.end, roots_, workspace_.get(), *stream_);
            continue;
        }
        if (!segment.recording) {
            stream_->begin_recording();
            try {
                program_->enqueue(schedule.steps, segment.begin, segment.end, roots_, workspace_.get(), *stream_);
            } catch (...) {
                try {
                    (void)stream_->end_recording();
                } catch (const std::exception&) {  // the first failure is the one to report
                }
                throw;
            }
            segment.recording = stream_->end_recording();
        }
        stream_->launch(*segment.recording);
    }
}

void Execution::run(std::span<const void* const> inputs, std::span<void* const> outputs) {
    const Schedule& schedule = program_->schedule();
    cancelled_ = false;
    for (std::size_t k = 0; k < inputs.size(); ++k) {
        const std::size_t size = size_of(schedule.graph.value(schedule.graph.inputs[k]));
        if (size == 0) continue;
        std::memcpy(staging_ + input_at_[k], inputs[k], size);
        stream_->upload(roots_[static_cast<std::size_t>(schedule.graph.inputs[k])], staging_ + input_at_[k], size);
    }
    run_segments();
    for (std::size_t k = 0; k < outputs.size(); ++k) {
        const std::size_t size = size_of(schedule.graph.value(schedule.graph.outputs[k]));
        if (size != 0) stream_->download(staging_ + output_at_[k], address(schedule, roots_, schedule.graph.outputs[k]), size);
    }
    stream_->synchronize();
    for (std::size_t k = 0; k < outputs.size(); ++k) {
        const std::size_t size = size_of(schedule.graph.value(schedule.graph.outputs[k]));
        if (size != 0) std::memcpy(outputs[k], staging_ + output_at_[k], size);
    }
    ran_ = true;
    if (cancelled_.exchange(false)) throw Error(ErrorCode::cancelled, ErrorCategory::runtime, "the execution was cancelled");
}

double Execution::replay_us() {
    (void)stream_->lap_us();
    run_segments();
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
            run_host(step);
            us = stream_->lap_us();
        } else if (!recording) {
            program_->enqueue(schedule.steps, s, s + 1, roots_, workspace_.get(), *stream_);
            us = stream_->lap_us();
        } else {
            stream_->begin_recording();
            for (int i = 0; i < kTimes; ++i) program_->enqueue(schedule.steps, s, s + 1, roots_, workspace_.get(), *stream_);
            const std::unique_ptr<RecordedGraph> graph = stream_->end_recording();
            stream_->launch(*graph);
            (void)stream_->lap_us();
            stream_->launch(*graph);
            us = stream_->lap_us() / kTimes;
        }
        times.emplace_back(step.label, us);
    }
    return times;
}

}  // namespace ai_vmm::cuda
