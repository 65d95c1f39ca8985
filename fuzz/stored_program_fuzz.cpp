// SPDX-License-Identifier: Apache-2.0
/// Arbitrary bytes as a stored program of the cuda backend: reading them gives a program or Error(data_loss). What is read is made ready on a device
/// whose memory is the process's own, run, and written again: copies that leave their buffers are found by the address sanitizer, library calls check
/// that they were given all their buffers, and what is written must be readable. Kernels do nothing here.
///
/// Inputs grow out of whole programs, which the mutator puts in the place of ones that are too short to be any; there are no seeds to keep up to
/// date.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <unordered_map>
#include <vector>

#include "ai_vmm/error.hpp"
#include "device/device.hpp"
#include "graph/graph.hpp"
#include "program/program.hpp"
#include "program/stored_program.hpp"

namespace {

using namespace ai_vmm::cuda;
using ai_vmm::Error;
using ai_vmm::ErrorCategory;
using ai_vmm::ErrorCode;

[[noreturn]] void fail(const char* what) {
    std::fprintf(stderr, "broken promise: %s\n", what);
    std::abort();
}

/// Buffers as in device/libraries.hpp.
std::size_t buffer_count(const MatmulSpec& spec) { return 3U + (spec.bias ? 1 : 0) + (spec.residual ? 1 : 0); }
std::size_t buffer_count(const ConvolutionSpec& spec) { return 3U + (spec.scale ? 1 : 0) + (spec.bias ? 1 : 0) + (spec.residual ? 1 : 0); }
std::size_t buffer_count(const AttentionSpec& spec) { return 4U + (spec.mask ? 1 : 0); }
std::size_t buffer_count(const RecurrentSpec& spec) { return spec.cell == RecurrentSpec::Cell::lstm ? 7U : 5U; }

void check_dims(const MatmulSpec&) {}
void check_dims(const ConvolutionSpec& spec) {
    const std::size_t rank = spec.in.size();
    for (const Dims* dims : {&spec.kernel, &spec.out, &spec.stride, &spec.dilation, &spec.pad_begin, &spec.pad_end}) {
        if (rank < 1 || rank > 3 || dims->size() != rank) fail("a convolution's dimensions");
    }
}
void check_dims(const AttentionSpec& spec) {
    for (const Dims* dims : {&spec.q_strides, &spec.k_strides, &spec.v_strides, &spec.o_strides}) {
        if (dims->size() != 4) fail("an attention's strides");
    }
    if (spec.mask && (spec.mask_dims.size() != 4 || spec.mask_strides.size() != 4)) fail("an attention's mask");
}

template <typename Base>
class Call final : public Base {
public:
    explicit Call(std::size_t buffers) : buffers_(buffers) {}
    [[nodiscard]] std::size_t workspace_bytes() const override { return 64; }
    void run(Stream& /*stream*/, std::span<const std::uint64_t> buffers, std::uint64_t workspace) override {
        if (buffers.size() != buffers_) fail("a library call's buffers");
        std::memset(reinterpret_cast<void*>(workspace), 0, 64);
    }
    [[nodiscard]] std::string describe() const override { return "nothing"; }

private:
    const std::size_t buffers_;
};

class Recurrence final : public RecurrentCall {
public:
    [[nodiscard]] std::size_t workspace_bytes() const override { return call_.workspace_bytes(); }
    void run(Stream& stream, std::span<const std::uint64_t> buffers, std::uint64_t workspace) override { call_.run(stream, buffers, workspace); }
    [[nodiscard]] std::string describe() const override { return "nothing"; }
    [[nodiscard]] std::size_t weight_bytes() const override { return 64; }
    [[nodiscard]] std::vector<std::byte> pack_weights(std::span<const std::byte>, std::span<const std::byte>,
                                                      std::span<const std::byte>) const override {
        return std::vector<std::byte>(64);
    }
    explicit Recurrence(const RecurrentSpec& spec) : call_(buffer_count(spec)) {}

private:
    Call<LibraryCall> call_;
};

class Recording final : public RecordedGraph {
public:
    std::vector<std::function<void()>> work;
};

/// Does at once what it is told, with addresses of the process.
class OwnStream final : public Stream {
public:
    void upload(DevicePtr to, const void* from, std::size_t bytes) override { copy_bytes(reinterpret_cast<void*>(to), from, bytes); }
    void download(void* to, DevicePtr from, std::size_t bytes) override { copy_bytes(to, reinterpret_cast<const void*>(from), bytes); }
    void copy(DevicePtr to, DevicePtr from, std::size_t bytes) override {
        copy_bytes(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
    }
    void copy_across(DevicePtr to, const Device&, DevicePtr from, const Device&, std::size_t bytes) override { copy(to, from, bytes); }
    void wait_for_default() override {}
    void fill(DevicePtr to, std::uint8_t value, std::size_t bytes) override {
        put([=] { std::memset(reinterpret_cast<void*>(to), value, bytes); });
    }
    void launch(Kernel kernel, const Launch&, std::span<void* const> arguments) override {
        if (kernel == nullptr) fail("a kernel");
        for (void* argument : arguments) {
            DevicePtr pointer = 0;
            std::memcpy(&pointer, argument, sizeof pointer);
        }
    }
    void synchronize() override {}
    [[nodiscard]] double lap_us() override { return 0; }
    void begin_recording() override { recording_ = std::make_unique<Recording>(); }
    [[nodiscard]] std::unique_ptr<RecordedGraph> end_recording() override { return std::move(recording_); }
    void launch(RecordedGraph& graph) override {
        for (const auto& work : dynamic_cast<Recording&>(graph).work) work();
    }

private:
    void put(std::function<void()> work) {
        if (recording_) {
            recording_->work.push_back(std::move(work));
        } else {
            work();
        }
    }
    void copy_bytes(void* to, const void* from, std::size_t bytes) {
        put([=] { std::memmove(to, from, bytes); });
    }
    std::unique_ptr<Recording> recording_;
};

class NoModule final : public Module {
public:
    [[nodiscard]] Kernel kernel(const std::string& /*name*/) override { return this; }
};

/// A device whose memory is the process's, and little of it.
class OwnDevice final : public Device {
public:
    explicit OwnDevice(bool recording) {
        capabilities_.name = "own";
        capabilities_.compute_major = 9;
        capabilities_.threads_per_block = 256;
        capabilities_.recording = recording;
    }
    [[nodiscard]] const Capabilities& capabilities() const noexcept override { return capabilities_; }
    [[nodiscard]] DevicePtr allocate(std::size_t bytes) override { return reinterpret_cast<DevicePtr>(take(bytes)); }
    void release(DevicePtr pointer) noexcept override { give(reinterpret_cast<void*>(pointer)); }
    [[nodiscard]] void* allocate_pinned(std::size_t bytes) override { return take(bytes); }
    void release_pinned(void* pointer) noexcept override { give(pointer); }
    [[nodiscard]] bool is_pinned(const void*) const override { return false; }
    [[nodiscard]] int ordinal() const noexcept override { return 0; }
    [[nodiscard]] bool owns(DevicePtr, std::size_t) const override { return true; }
    void synchronize() override {}
    [[nodiscard]] std::shared_ptr<Module> load(const std::string&) override { return std::make_shared<NoModule>(); }
    [[nodiscard]] std::unique_ptr<Stream> create_stream() override { return std::make_unique<OwnStream>(); }
    [[nodiscard]] std::unique_ptr<LibraryCall> make(const MatmulSpec& spec) override { return made(spec); }
    [[nodiscard]] std::unique_ptr<LibraryCall> make(const ConvolutionSpec& spec) override { return made(spec); }
    [[nodiscard]] std::unique_ptr<LibraryCall> make(const AttentionSpec& spec) override { return made(spec); }
    [[nodiscard]] std::unique_ptr<RecurrentCall> make(const RecurrentSpec& spec) override { return std::make_unique<Recurrence>(spec); }
    [[nodiscard]] std::int64_t free_bytes() const override { return kMemory; }

private:
    static constexpr std::int64_t kMemory = 16 << 20;
    template <typename Spec>
    [[nodiscard]] std::unique_ptr<LibraryCall> made(const Spec& spec) {
        check_dims(spec);
        return std::make_unique<Call<LibraryCall>>(buffer_count(spec));
    }
    void* take(std::size_t bytes) {
        if (bytes == 0) return nullptr;
        const std::lock_guard lock(mutex_);
        if (bytes > static_cast<std::size_t>(kMemory - used_)) throw Error(ErrorCode::resource_exhausted, ErrorCategory::system, "no memory");
        void* const memory = std::calloc(bytes, 1);
        sizes_[memory] = bytes;
        used_ += static_cast<std::int64_t>(bytes);
        return memory;
    }
    void give(void* memory) noexcept {
        const std::lock_guard lock(mutex_);
        const auto found = sizes_.find(memory);
        if (found == sizes_.end()) fail("memory that was not taken");
        used_ -= static_cast<std::int64_t>(found->second);
        sizes_.erase(found);
        std::free(memory);
    }
    Capabilities capabilities_;
    std::mutex mutex_;
    std::unordered_map<void*, std::size_t> sizes_;
    std::int64_t used_ = 0;
};

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

std::string written(const Program& program) {
    std::ostringstream out;
    program.write_to(out);
    return std::move(out).str();
}

std::string program_of(const std::function<void(Builder&)>& build) {
    const auto device = std::make_shared<OwnDevice>(true);
    Graph graph;
    Builder builder(graph);
    build(builder);
    return written(Program(device, std::move(graph), std::make_shared<WeightStore>(device)));
}

/// Whole programs with every kind of step and call.
const std::vector<std::string>& programs() {
    static const std::vector<std::string> all = [] {
        const std::vector<float> values(1024, 0.5F);
        const auto weights = [&](Builder& builder, Dims dims) {
            const auto count = static_cast<std::size_t>(elements(dims));
            return builder.constant_f32(std::move(dims), std::span(values).first(count));
        };
        std::vector<std::string> made;
        made.push_back(program_of([&](Builder& b) {
            const ValueId x = b.input(Type::f32, {8}, "x"), y = b.input(Type::f32, {8}, "y");
            b.output(b.pointwise("Add", Type::f32, {x, y}, "a + b"), "sum");
            b.output(b.transpose(b.reshape(x, {2, 4}), {1, 0}), "turned");
            b.output(weights(b, {4}), "constant");
        }));
        made.push_back(program_of([&](Builder& b) {
            MatmulSpec spec{.m = 4, .n = 16, .k = 8, .batch = 1};
            const ValueId x = b.input(Type::f32, {1, 4, 8}, "x");
            const ValueId w = b.pointwise("Exp", Type::f32, {weights(b, {1, 8, 16})}, "exp(a)");
            b.output(b.pointwise("Tanh", Type::f32, {b.matmul(x, w, spec)}, "tanh(a)"), "y");
        }));
        made.push_back(program_of([&](Builder& b) {
            ConvolutionSpec spec{.batch = 1,
                                 .channels_in = 4,
                                 .channels_out = 4,
                                 .in = {6, 6},
                                 .kernel = {3, 3},
                                 .out = {4, 4},
                                 .stride = {1, 1},
                                 .dilation = {1, 1},
                                 .pad_begin = {0, 0},
                                 .pad_end = {0, 0}};
            const ValueId x = b.input(Type::f32, {1, 4, 6, 6}, "x");
            const ValueId y = b.convolution({x, weights(b, {4, 4, 3, 3})}, spec);
            b.output(y, "y");
            b.output(b.slice(y, {0, 0, 1, 1}, {1, 1, 2, -1}, {1, 4, 2, 2}), "part");
        }));
        made.push_back(program_of([&](Builder& b) {
            AttentionSpec spec{.batch = 1, .heads = 2, .kv_heads = 2, .queries = 4, .keys = 4, .head_size = 16, .value_size = 16, .type = Type::f16};
            std::vector<ValueId> inputs;
            for (const char* name : {"q", "k", "v"}) inputs.push_back(b.input(Type::f16, {1, 2, 4, 16}, name));
            b.output(b.attention(inputs, spec), "o");
        }));
        return made;
    }();
    return all;
}

/// A whole program with some bytes changed, taken out or put in.
std::string changed_program(FuzzedDataProvider& data) {
    std::string bytes = programs()[data.ConsumeIntegralInRange<std::size_t>(0, programs().size() - 1)];
    const auto overwrite = [&](std::size_t at, const void* with, std::size_t size) {
        std::memcpy(bytes.data() + at, with, std::min(size, bytes.size() - at));
    };
    while (data.remaining_bytes() > 0 && !bytes.empty()) {
        const auto at = data.ConsumeIntegralInRange<std::size_t>(0, bytes.size() - 1);
        switch (data.ConsumeIntegralInRange(0, 5)) {
            case 0: bytes[at] = data.ConsumeIntegral<char>(); break;
            case 1: {
                const auto number = data.ConsumeIntegral<std::uint64_t>();
                overwrite(at, &number, sizeof number);
                break;
            }
            case 2: {
                std::uint64_t number = 0;  // counts, places and strides are small numbers of eight bytes
                std::memcpy(&number, bytes.data() + at, std::min(sizeof number, bytes.size() - at));
                number += static_cast<std::uint64_t>(std::int64_t{data.ConsumeIntegral<std::int8_t>()});
                overwrite(at, &number, sizeof number);
                break;
            }
            case 3: {
                const std::string other = bytes.substr(data.ConsumeIntegralInRange<std::size_t>(0, bytes.size() - 1), 8);
                overwrite(at, other.data(), other.size());
                break;
            }
            case 4: bytes.erase(at, data.ConsumeIntegralInRange<std::size_t>(1, 64)); break;
            default: bytes.insert(at, data.ConsumeRandomLengthString(64));
        }
    }
    return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
    ::setenv("AI_VMM_LOG", "off", 1);
    for (const std::string& program : programs()) (void)read_program(bytes_of(program));
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    std::string program_bytes(reinterpret_cast<const char*>(bytes), size);
    if (!program_bytes.starts_with("ai_vmm")) {
        FuzzedDataProvider data(bytes, size);
        program_bytes = changed_program(data);
    }
    StoredProgram stored;
    try {
        stored = read_program(bytes_of(program_bytes));
    } catch (const Error& error) {
        if (error.code() != ErrorCode::data_loss || error.message().empty()) fail("what damage is told as");
        return 0;
    }
    const auto device = std::make_shared<OwnDevice>(size % 2 == 0);
    try {
        const auto program = std::make_shared<const Program>(device, std::move(stored), std::make_shared<WeightStore>(device));
        Execution execution(program);
        const Graph& graph = program->schedule().graph;
        std::vector<std::vector<char>> memory;
        std::vector<const void*> inputs;
        std::vector<void*> outputs;
        const auto make = [&](ValueId id) {
            memory.emplace_back(static_cast<std::size_t>(ai_vmm::cuda::bytes(graph.value(id).type, graph.value(id).dims)), '\1');
            return memory.back().data();
        };
        for (ValueId id : graph.inputs) inputs.push_back(make(id));
        for (ValueId id : graph.outputs) outputs.push_back(make(id));
        for (int times = 0; times < 2; ++times) execution.run(inputs, outputs);
        const std::string again = written(*program);
        try {
            (void)read_program(bytes_of(again));
        } catch (const Error&) {
            fail("what was written can't be read");
        }
    } catch (const Error& error) {
        if (error.code() != ErrorCode::resource_exhausted) fail(error.what());
    }
    return 0;
}
