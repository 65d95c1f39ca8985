// SPDX-License-Identifier: Apache-2.0
#include "cuda/host_device.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "ai_vmm/error.hpp"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

namespace ai_vmm::cuda::test {
namespace {

constexpr std::size_t kRedZone = 256;
constexpr unsigned char kRed = 0xFD, kFresh = 0xCD, kReleased = 0xDD;
constexpr const char* kCallNames[kCalls] = {"allocate", "allocate_pinned", "load",         "upload",      "download",        "copy",
                                            "fill",     "launch",          "launch_graph", "synchronize", "begin_recording", "end_recording"};

/// Streams of this thread that record: what touches the device otherwise is refused then, as CUDA's thread-local capture does.
thread_local int recordings_here = 0;

struct Block {
    unsigned char* memory = nullptr;  ///< of red zone, contents, red zone
    std::size_t bytes = 0;
};

[[noreturn]] void fail(const char* name, const std::string& doing, const std::string& found = {}) {
    throw Error(ErrorCode::internal, ErrorCategory::runtime, doing + " failed: " + name, {.found = found, .advice = "report this with the model"});
}

class HostModule;
struct HostKernel {
    HostModule* module = nullptr;
    void (*run)(void**, std::uint64_t) = nullptr;
    const std::uint64_t* sizes = nullptr;
    std::string name;
};

class HostModule : public Module {
public:
    explicit HostModule(const std::string& path) : library_(::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {
        if (library_ == nullptr) fail("CUDA_ERROR_INVALID_IMAGE", "loading a module", ::dlerror());
    }
    ~HostModule() override { ::dlclose(library_); }
    HostModule(const HostModule&) = delete;
    HostModule& operator=(const HostModule&) = delete;

    Kernel kernel(const std::string& name) override {
        const std::lock_guard lock(mutex_);
        if (const auto found = kernels_.find(name); found != kernels_.end()) return &found->second;
        HostKernel kernel{.module = this, .name = name};
        kernel.run = reinterpret_cast<void (*)(void**, std::uint64_t)>(::dlsym(library_, ("run_" + name).c_str()));
        kernel.sizes = static_cast<const std::uint64_t*>(::dlsym(library_, ("sizes_" + name).c_str()));
        if (kernel.run == nullptr || kernel.sizes == nullptr) fail("CUDA_ERROR_NOT_FOUND", "finding a kernel", name);
        return &kernels_.emplace(name, kernel).first->second;
    }
    std::mutex& running() noexcept { return running_; }

private:
    void* library_;
    std::mutex mutex_, running_;
    std::map<std::string, HostKernel> kernels_;
};

using Work = std::function<void()>;

struct HostGraph : RecordedGraph {
    std::vector<Work> work;
};

}  // namespace

class HostStream;

struct HostDevice::Impl {
    HostDeviceOptions options;
    Capabilities capabilities;
    mutable std::recursive_mutex mutex;  ///< guards everything below; recursive since work run by check() may report problems
    std::map<std::uint64_t, Block> blocks;
    std::map<void*, Block> pinned;
    std::vector<HostStream*> streams;
    std::vector<std::string> problems;
    Counters counters;
    std::atomic<std::int64_t> kernels_run{0};  ///< not guarded: work holds a stream's lock, which is taken after the device's
    std::string failure;
    struct Injection {
        Call call;
        Failure failure;
        int after;
    };
    std::vector<Injection> injections;

    void problem(const std::string& text) {
        const std::lock_guard lock(mutex);
        problems.push_back(text);
        if (options.on_problem) {
            options.on_problem(text);
        } else {
            std::fprintf(stderr, "host device: %s\n", text.c_str());
        }
    }

    /// Counts the call; throws what is injected into it.
    void enter(Call call) {
        const std::lock_guard lock(mutex);
        ++counters.calls[static_cast<std::size_t>(call)];
        const std::string name = kCallNames[static_cast<std::size_t>(call)];
        if (!failure.empty()) fail("CUDA_ERROR_LAUNCH_FAILED", name, failure);
        const auto found = std::find_if(injections.begin(), injections.end(), [&](auto& one) { return one.call == call && one.after-- == 0; });
        if (found == injections.end()) return;
        const auto kind = found->failure;
        injections.erase(found);
        if (kind == Failure::out_of_memory) {
            throw Error(ErrorCode::resource_exhausted, ErrorCategory::runtime, name + " failed: CUDA_ERROR_OUT_OF_MEMORY",
                        {.found = "an injected failure"});
        }
        if (kind == Failure::sticky) failure = name + " failed: CUDA_ERROR_LAUNCH_FAILED (injected)";
        fail(kind == Failure::sticky ? "CUDA_ERROR_LAUNCH_FAILED" : "CUDA_ERROR_UNKNOWN", name, "an injected failure");
    }

    static void refuse_while_recording(const char* doing) {
        if (recordings_here > 0) fail("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", doing, "this thread records a stream");
    }

    void check_block(const Block& block, const char* when) {
        auto damaged = [&](unsigned char* zone) {
            ASAN_UNPOISON_MEMORY_REGION(zone, kRedZone);
            const bool bad = std::any_of(zone, zone + kRedZone, [](unsigned char c) { return c != kRed; });
            std::memset(zone, kRed, kRedZone);
            ASAN_POISON_MEMORY_REGION(zone, kRedZone);
            return bad;
        };
        for (const auto& [zone, where] : {std::pair(block.memory, "before"), std::pair(block.memory + kRedZone + block.bytes, "behind")}) {
            if (damaged(zone))
                problem("memory " + std::string(where) + " an allocation of " + std::to_string(block.bytes) + " bytes was written (" + when + ")");
        }
    }

    /// The range lies within one allocation.
    void check_range(std::uint64_t pointer, std::size_t bytes, const char* doing) {
        const std::lock_guard lock(mutex);
        auto found = blocks.upper_bound(pointer);
        if (found != blocks.begin()) {
            --found;
            if (pointer + bytes <= found->first + found->second.bytes) return;
        }
        fail("CUDA_ERROR_INVALID_VALUE", doing, std::to_string(bytes) + " bytes at an address that no allocation holds in whole");
    }

    bool is_pinned(const void* pointer) {
        const std::lock_guard lock(mutex);
        auto* const at = const_cast<void*>(pointer);
        auto found = pinned.upper_bound(at);
        if (found == pinned.begin()) return false;
        --found;
        return static_cast<char*>(at) < static_cast<char*>(found->first) + found->second.bytes;
    }

    void drain_all();
};

namespace {

Block make_block(std::size_t bytes) {
    const auto whole = (bytes + 2 * kRedZone + 255) / 256 * 256;
    auto* memory = static_cast<unsigned char*>(std::aligned_alloc(256, whole));
    if (memory == nullptr) return {};
    std::memset(memory, kRed, kRedZone);
    std::memset(memory + kRedZone, kFresh, bytes);
    std::memset(memory + kRedZone + bytes, kRed, kRedZone);
    ASAN_POISON_MEMORY_REGION(memory, kRedZone);
    ASAN_POISON_MEMORY_REGION(memory + kRedZone + bytes, whole - kRedZone - bytes);
    return {memory, bytes};
}

void free_block(const Block& block) {
    const auto whole = (block.bytes + 2 * kRedZone + 255) / 256 * 256;
    ASAN_UNPOISON_MEMORY_REGION(block.memory, whole);
    (void)whole;
    std::memset(block.memory + kRedZone, kReleased, block.bytes);
    std::free(block.memory);
}

void* address(DevicePtr pointer) { return reinterpret_cast<void*>(static_cast<std::uintptr_t>(pointer)); }

/// As many bytes of fresh memory in a row are no coincidence.
constexpr std::size_t kUnwritten = 32;

std::size_t longest_unwritten(const void* memory, std::size_t bytes) {
    std::size_t most = 0, run = 0;
    for (const auto* at = static_cast<const unsigned char*>(memory); at != static_cast<const unsigned char*>(memory) + bytes; ++at) {
        run = *at == kFresh ? run + 1 : 0;
        most = std::max(most, run);
    }
    return most;
}

}  // namespace

/// Work waits here until something synchronizes.
class HostStream : public Stream {
public:
    explicit HostStream(std::shared_ptr<HostDevice::Impl> device) : device_(std::move(device)), lap_(std::chrono::steady_clock::now()) {
        const std::lock_guard lock(device_->mutex);
        device_->streams.push_back(this);
    }
    ~HostStream() override {
        if (recording_) --recordings_here;
        drain();
        const std::lock_guard lock(device_->mutex);
        std::erase(device_->streams, this);
    }
    HostStream(const HostStream&) = delete;
    HostStream& operator=(const HostStream&) = delete;

    void upload(DevicePtr to, const void* from, std::size_t bytes) override {
        device_->enter(Call::upload);
        if (recording_ && !device_->is_pinned(from)) fail("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "upload");
        if (bytes == 0) return;
        device_->check_range(to, bytes, "upload");
        if (device_->is_pinned(from)) {
            add([=] { std::memcpy(address(to), from, bytes); });
        } else {  // the driver takes pageable memory's contents before it returns
            add([to, kept = std::vector<char>(static_cast<const char*>(from), static_cast<const char*>(from) + bytes)] {
                std::memcpy(address(to), kept.data(), kept.size());
            });
        }
    }
    void download(void* to, DevicePtr from, std::size_t bytes) override {
        device_->enter(Call::download);
        if (recording_ && !device_->is_pinned(to)) fail("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "download");
        if (bytes == 0) return;
        device_->check_range(from, bytes, "download");
        add([=, device = device_.get()] {
            if (const std::size_t unwritten = longest_unwritten(address(from), bytes); unwritten >= kUnwritten)
                device->problem("a download of " + std::to_string(bytes) + " bytes has " + std::to_string(unwritten) +
                                " in a row that nothing wrote");
            std::memcpy(to, address(from), bytes);
        });
    }
    void copy(DevicePtr to, DevicePtr from, std::size_t bytes) override {
        device_->enter(Call::copy);
        if (bytes == 0) return;
        device_->check_range(from, bytes, "copy");
        device_->check_range(to, bytes, "copy");
        if (to < from + bytes && from < to + bytes) fail("CUDA_ERROR_INVALID_VALUE", "copy", "source and target overlap");
        add([=] { std::memcpy(address(to), address(from), bytes); });
    }
    void copy_across(DevicePtr to, const Device& to_device, DevicePtr from, const Device& from_device, std::size_t bytes) override {
        device_->enter(Call::copy);
        if (bytes == 0) return;
        if (!from_device.owns(from, bytes) || !to_device.owns(to, bytes))
            fail("CUDA_ERROR_INVALID_VALUE", "copy_across", "not these devices' memory");
        add([=] { std::memcpy(address(to), address(from), bytes); });
    }
    void wait_for_default() override {
        if (recording_) fail("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "wait_for_default");
        const std::lock_guard lock(device_->mutex);
        ++device_->counters.waits_for_default;
    }
    void fill(DevicePtr to, std::uint8_t value, std::size_t bytes) override {
        device_->enter(Call::fill);
        if (bytes == 0) return;
        device_->check_range(to, bytes, "fill");
        add([=] { std::memset(address(to), value, bytes); });
    }
    void launch(Kernel kernel, const Launch& launch, std::span<void* const> arguments) override {
        device_->enter(Call::launch);
        auto* const host = static_cast<HostKernel*>(kernel);
        std::uint64_t groups = 1;
        for (const auto g : launch.grid) groups *= g;
        if (groups == 0) fail("CUDA_ERROR_INVALID_VALUE", "launch", "an empty grid for " + host->name);
        if (launch.grid[1] > 65535 || launch.grid[2] != 1 || launch.grid[0] > 2147483647U) {
            fail("CUDA_ERROR_INVALID_VALUE", "launch", "a grid beyond CUDA's limits for " + host->name);
        }
        if (launch.block[0] * launch.block[1] * launch.block[2] != 1)
            fail("CUDA_ERROR_INVALID_VALUE", "launch", "blocks have one thread here: " + host->name);
        std::vector<std::vector<char>> values;
        for (const auto* size = host->sizes; *size != 0; ++size) {
            const auto index = static_cast<std::size_t>(size - host->sizes);
            if (index >= arguments.size()) fail("CUDA_ERROR_INVALID_VALUE", "launch", "too few arguments for " + host->name);
            const auto* const from = static_cast<const char*>(arguments[index]);
            values.emplace_back(from, from + *size);
        }
        if (values.size() != arguments.size()) fail("CUDA_ERROR_INVALID_VALUE", "launch", "too many arguments for " + host->name);
        add([host, groups, values, device = device_.get()] {
            std::vector<void*> pointers;
            for (const auto& value : values) pointers.push_back(const_cast<char*>(value.data()));
            {
                const std::lock_guard lock(host->module->running());
                host->run(pointers.data(), groups);
            }
            ++device->kernels_run;
        });
    }
    void synchronize() override {
        device_->enter(Call::synchronize);
        if (recording_) fail("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "synchronize");
        drain();
    }
    double lap_us() override {
        synchronize();
        const auto now = std::chrono::steady_clock::now();
        return std::chrono::duration<double, std::micro>(now - std::exchange(lap_, now)).count();
    }
    void begin_recording() override {
        device_->enter(Call::begin_recording);
        if (!device_->capabilities.recording) throw Error(ErrorCode::unimplemented, ErrorCategory::runtime, "this device doesn't record");
        if (recording_) fail("CUDA_ERROR_ILLEGAL_STATE", "begin_recording", "the stream records already");
        recording_ = std::make_unique<HostGraph>();
        ++recordings_here;
    }
    std::unique_ptr<RecordedGraph> end_recording() override {
        if (!recording_) fail("CUDA_ERROR_ILLEGAL_STATE", "end_recording", "the stream doesn't record");
        --recordings_here;
        auto graph = std::move(recording_);
        device_->enter(Call::end_recording);
        return graph;
    }
    void launch(RecordedGraph& graph) override {
        device_->enter(Call::launch_graph);
        for (const auto& work : static_cast<HostGraph&>(graph).work) add(work);
    }

    void drain() {
        const std::lock_guard lock(mutex_);
        for (auto& work : std::exchange(waiting_, {})) work();
    }

private:
    void add(Work work) {
        if (recording_) {
            recording_->work.push_back(std::move(work));
            return;
        }
        const std::lock_guard lock(mutex_);
        waiting_.push_back(std::move(work));
    }

    std::shared_ptr<HostDevice::Impl> device_;
    std::recursive_mutex mutex_;
    std::vector<Work> waiting_;
    std::unique_ptr<HostGraph> recording_;
    std::chrono::steady_clock::time_point lap_;
};

void HostDevice::Impl::drain_all() {
    const std::lock_guard lock(mutex);
    for (auto* stream : streams) stream->drain();
}

HostDevice::HostDevice(HostDeviceOptions options) : impl_(std::make_shared<Impl>()) {
    impl_->capabilities = {.name = "host", .multiprocessors = 1, .threads_per_block = 1, .recording = options.recording};
    impl_->options = std::move(options);
}

HostDevice::~HostDevice() {
    impl_->drain_all();
    check();
    for (const auto& [pointer, block] : impl_->blocks) {
        impl_->problem("an allocation of " + std::to_string(block.bytes) + " bytes was never released");
        free_block(block);
    }
    for (const auto& [pointer, block] : impl_->pinned) {
        impl_->problem("pinned memory of " + std::to_string(block.bytes) + " bytes was never released");
        free_block(block);
    }
}

const Capabilities& HostDevice::capabilities() const noexcept { return impl_->capabilities; }

DevicePtr HostDevice::allocate(std::size_t bytes) {
    if (bytes == 0) return 0;
    impl_->enter(Call::allocate);
    Impl::refuse_while_recording("allocate");
    const std::lock_guard lock(impl_->mutex);
    const auto free = free_bytes();
    const auto block = static_cast<std::int64_t>(bytes) <= free ? make_block(bytes) : Block{};
    if (block.memory == nullptr) {
        throw Error(ErrorCode::resource_exhausted, ErrorCategory::runtime, "device memory is used up",
                    {.expected = std::to_string(bytes) + " bytes", .found = std::to_string(free) + " bytes free"});
    }
    const auto pointer = reinterpret_cast<std::uintptr_t>(block.memory + kRedZone);
    impl_->blocks.emplace(pointer, block);
    auto& counters = impl_->counters;
    ++counters.allocations;
    counters.allocated_bytes += static_cast<std::int64_t>(bytes);
    counters.taken_bytes += allocation_bytes(static_cast<std::int64_t>(bytes));
    counters.peak_allocated_bytes = std::max(counters.peak_allocated_bytes, counters.allocated_bytes);
    return pointer;
}

void HostDevice::release(DevicePtr pointer) noexcept {
    if (pointer == 0) return;
    impl_->drain_all();  // as cuMemFree waits for the device
    const std::lock_guard lock(impl_->mutex);
    const auto found = impl_->blocks.find(pointer);
    if (found == impl_->blocks.end()) {
        impl_->problem("release of what is not allocated");
        return;
    }
    impl_->check_block(found->second, "seen at release");
    --impl_->counters.allocations;
    impl_->counters.allocated_bytes -= static_cast<std::int64_t>(found->second.bytes);
    impl_->counters.taken_bytes -= allocation_bytes(static_cast<std::int64_t>(found->second.bytes));
    free_block(found->second);
    impl_->blocks.erase(found);
}

void* HostDevice::allocate_pinned(std::size_t bytes) {
    if (bytes == 0) return nullptr;
    impl_->enter(Call::allocate_pinned);
    Impl::refuse_while_recording("allocate_pinned");
    const std::lock_guard lock(impl_->mutex);
    const auto block = make_block(bytes);
    if (block.memory == nullptr) {
        throw Error(ErrorCode::resource_exhausted, ErrorCategory::runtime, "no memory for " + std::to_string(bytes) + " pinned bytes");
    }
    impl_->pinned.emplace(block.memory + kRedZone, block);
    ++impl_->counters.pinned_allocations;
    return block.memory + kRedZone;
}

void HostDevice::release_pinned(void* pointer) noexcept {
    if (pointer == nullptr) return;
    impl_->drain_all();
    const std::lock_guard lock(impl_->mutex);
    const auto found = impl_->pinned.find(pointer);
    if (found == impl_->pinned.end()) {
        impl_->problem("release of what is not pinned");
        return;
    }
    impl_->check_block(found->second, "seen at release");
    --impl_->counters.pinned_allocations;
    free_block(found->second);
    impl_->pinned.erase(found);
}

bool HostDevice::is_pinned(const void* pointer) const { return impl_->is_pinned(pointer); }

int HostDevice::ordinal() const noexcept { return impl_->options.ordinal; }

bool HostDevice::owns(DevicePtr pointer, std::size_t bytes) const {
    const std::lock_guard lock(impl_->mutex);
    auto found = impl_->blocks.upper_bound(pointer);
    return found != impl_->blocks.begin() && pointer + bytes <= (--found)->first + found->second.bytes;
}

void HostDevice::synchronize() {
    impl_->enter(Call::synchronize);
    impl_->drain_all();
}

std::shared_ptr<Module> HostDevice::load(const std::string& source) {
    impl_->enter(Call::load);
    Impl::refuse_while_recording("load");
    bool compiled = false;
    const auto path = compile_host_library(host_source(source), compiled);
    if (compiled) {
        const std::lock_guard lock(impl_->mutex);
        ++impl_->counters.compilations;
    }
    return std::make_shared<HostModule>(path);
}

std::unique_ptr<Stream> HostDevice::create_stream() { return std::make_unique<HostStream>(impl_); }

std::string HostDevice::failure() const {
    const std::lock_guard lock(impl_->mutex);
    return impl_->failure;
}

std::int64_t HostDevice::free_bytes() const {
    const std::lock_guard lock(impl_->mutex);
    return impl_->options.memory_bytes - impl_->counters.allocated_bytes;
}

void HostDevice::inject(Call call, Failure failure, int after) {
    const std::lock_guard lock(impl_->mutex);
    impl_->injections.push_back({call, failure, after});
}

void HostDevice::check() {
    impl_->drain_all();
    const std::lock_guard lock(impl_->mutex);
    for (const auto& [pointer, block] : impl_->blocks) impl_->check_block(block, "seen by a check");
    for (const auto& [pointer, block] : impl_->pinned) impl_->check_block(block, "seen by a check");
}

std::vector<std::string> HostDevice::problems() const {
    const std::lock_guard lock(impl_->mutex);
    return impl_->problems;
}

HostDevice::Counters HostDevice::counters() const {
    const std::lock_guard lock(impl_->mutex);
    auto counters = impl_->counters;
    counters.kernels_run = impl_->kernels_run;
    return counters;
}

void HostDevice::reset_counters() {
    const std::lock_guard lock(impl_->mutex);
    impl_->counters.calls = {};
    impl_->counters.compilations = 0;
    impl_->kernels_run = 0;
    impl_->counters.peak_allocated_bytes = impl_->counters.allocated_bytes;
}

}  // namespace ai_vmm::cuda::test
