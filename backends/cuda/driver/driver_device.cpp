// SPDX-License-Identifier: Apache-2.0
#include "driver/driver_device.hpp"

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "ai_vmm/error.hpp"
#include "base/log.hpp"
#include "driver/cuda_api.hpp"
#include "driver/kernel_compiler.hpp"
#include "driver/nvml.hpp"
#include "driver/overlap.hpp"

namespace ai_vmm::cuda {

struct DriverDevice::Impl {
    const CudaApi& api;
    int ordinal = 0;
    CUdevice device = 0;
    CUcontext context = nullptr;
    Capabilities capabilities;
    std::string pci_address;
    std::optional<std::int64_t> free_before;  // the context was made

    mutable std::mutex mutex;  // guards what follows
    std::map<DevicePtr, std::size_t> allocations;
    std::int64_t allocated_bytes = 0;
    std::string failure;

    explicit Impl(int which) : api(CudaApi::get()), ordinal(which) {
        int count = 0;
        api.check(api.device_count(&count), "cuDeviceGetCount");
        if (ordinal < 0 || ordinal >= count) {
            throw Error(ErrorCode::unavailable, ErrorCategory::system, "there is no such CUDA device",
                        {.expected = "0 to " + std::to_string(count - 1), .found = std::to_string(ordinal), .advice = "see the list of devices"});
        }
        api.check(api.device_get(&device, ordinal), "cuDeviceGet");
        char name[256] = {};
        api.check(api.device_name(name, sizeof(name) - 1, device), "cuDeviceGetName");
        capabilities.name = name;
        capabilities.compute_major = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
        capabilities.compute_minor = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
        capabilities.multiprocessors = attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
        capabilities.threads_per_block = 256;
        capabilities.shared_bytes_per_block = attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK);
        capabilities.l2_bytes = attribute(CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
        capabilities.recording = true;
        char address[32] = {};
        if (api.device_pci_bus_id(address, sizeof(address) - 1, device) == CUDA_SUCCESS) pci_address = address;
        free_before = free_now();
        base::log_debug("cuda: opening " + capabilities.name);
        api.check(api.context_retain(&context, device), "cuDevicePrimaryCtxRetain");
        base::log_debug("cuda: " + capabilities.name + " is open");
    }
    ~Impl() {
        if (context != nullptr) (void)api.context_release(device);
    }
    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;

    /// Of the whole device, without a context.
    [[nodiscard]] std::optional<std::int64_t> free_now() const {
        const auto info = pci_address.empty() ? std::nullopt : ask_nvml_memory(pci_address);
        return info ? info->memory_free_bytes : std::nullopt;
    }

    [[nodiscard]] int attribute(CUdevice_attribute which) const {
        int value = 0;
        api.check(api.device_attribute(&value, which, device), "cuDeviceGetAttribute");
        return value;
    }

    /// Throws for a failed call; notes a failure that the context doesn't survive.
    void check(CUresult result, std::string_view doing) {
        if (result == CUDA_SUCCESS) return;
        const auto error = api.error(result, doing);
        if (is_sticky(result)) note_failure(error.message());
        throw error;
    }
    /// For calls that can't throw.
    void note(CUresult result, std::string_view doing) noexcept {
        if (result == CUDA_SUCCESS) return;
        try {
            const auto error = api.error(result, doing);
            if (is_sticky(result)) note_failure(error.message());
            base::log_debug(error.message());
        } catch (const std::exception&) {  // no memory for a message
        }
    }
    void note_failure(const std::string& text) {
        const std::lock_guard lock(mutex);
        if (!failure.empty()) return;
        failure = text;
        base::log_warning("CUDA device " + std::to_string(ordinal) + " has failed: " + text);
    }
};

namespace {

/// Makes the device's context current as long as it lives, then the caller's again.
class Current {
public:
    explicit Current(DriverDevice::Impl& device) : device_(device) {
        device_.check(device_.api.context_get(&before_), "cuCtxGetCurrent");
        if (before_ != device_.context) device_.check(device_.api.context_set(device_.context), "cuCtxSetCurrent");
    }
    ~Current() {
        if (before_ != device_.context) (void)device_.api.context_set(before_);
    }
    Current(const Current&) = delete;
    Current& operator=(const Current&) = delete;

private:
    DriverDevice::Impl& device_;
    CUcontext before_ = nullptr;
};

/// For destructors: runs `work` in the context; does nothing where that can't be made current.
template <typename Work>
void quietly(DriverDevice::Impl& device, const Work& work) noexcept {
    try {
        const Current current(device);
        work();
    } catch (const std::exception&) {  // noted by check()
    }
}

class DriverModule : public Module {
public:
    DriverModule(std::shared_ptr<DriverDevice::Impl> device, const DeviceCode& code) : device_(std::move(device)) {
        const Current current(*device_);
        try {
            for (const auto& image : code) {
                CUmodule module = nullptr;
                device_->check(device_->api.module_load(&module, image->c_str()), "cuModuleLoadData");
                modules_.push_back(module);
            }
        } catch (...) {
            unload();
            throw;
        }
    }
    ~DriverModule() override {
        quietly(*device_, [&] { unload(); });
    }
    DriverModule(const DriverModule&) = delete;
    DriverModule& operator=(const DriverModule&) = delete;

    Kernel kernel(const std::string& name) override {
        const std::lock_guard lock(mutex_);
        if (const auto found = kernels_.find(name); found != kernels_.end()) return found->second;
        const Current current(*device_);
        CUfunction function = nullptr;
        auto result = CUDA_ERROR_NOT_FOUND;
        for (auto* const module : modules_) {
            result = device_->api.module_function(&function, module, name.c_str());
            if (result != CUDA_ERROR_NOT_FOUND) break;
        }
        device_->check(result, "finding kernel " + name);
        // The driver loads kernels when they are first used, which a recording can't wait for.
        if (device_->api.function_load != nullptr) device_->check(device_->api.function_load(function), "cuFuncLoad of " + name);
        kernels_.emplace(name, function);
        return function;
    }

private:
    void unload() noexcept {
        for (auto* const module : modules_) device_->note(device_->api.module_unload(module), "cuModuleUnload");
        modules_.clear();
    }

    std::shared_ptr<DriverDevice::Impl> device_;
    std::vector<CUmodule> modules_;
    std::mutex mutex_;
    std::map<std::string, CUfunction> kernels_;
};

class DriverGraph : public RecordedGraph {
public:
    DriverGraph(std::shared_ptr<DriverDevice::Impl> device, CUgraphExec handle) : device_(std::move(device)), handle_(handle) {}
    ~DriverGraph() override {
        quietly(*device_, [&] { device_->note(device_->api.graph_exec_destroy(handle_), "cuGraphExecDestroy"); });
    }
    DriverGraph(const DriverGraph&) = delete;
    DriverGraph& operator=(const DriverGraph&) = delete;
    [[nodiscard]] CUgraphExec handle() const noexcept { return handle_; }

private:
    std::shared_ptr<DriverDevice::Impl> device_;
    CUgraphExec handle_;
};

class DriverStream : public Stream {
public:
    explicit DriverStream(std::shared_ptr<DriverDevice::Impl> device) : device_(std::move(device)) {
        const Current current(*device_);
        const auto& api = device_->api;
        try {
            // Not the default kind, which would wait for the process's other CUDA code.
            device_->check(api.stream_create(&stream_, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
            device_->check(api.event_create(&lap_, CU_EVENT_DEFAULT), "cuEventCreate");
            device_->check(api.event_create(&now_, CU_EVENT_DEFAULT), "cuEventCreate");
            device_->check(api.event_create(&ready_, CU_EVENT_DISABLE_TIMING), "cuEventCreate");
            device_->check(api.event_record(lap_, stream_), "cuEventRecord");
        } catch (...) {
            close();
            throw;
        }
    }
    ~DriverStream() override {
        quietly(*device_, [&] { close(); });
    }
    DriverStream(const DriverStream&) = delete;
    DriverStream& operator=(const DriverStream&) = delete;

    // The driver itself refuses to record transfers of memory that is not pinned.
    void upload(DevicePtr to, const void* from, std::size_t bytes) override {
        if (bytes == 0) return;
        const Current current(*device_);
        device_->check(device_->api.upload(to, from, bytes, stream_), "cuMemcpyHtoDAsync");
    }
    void download(void* to, DevicePtr from, std::size_t bytes) override {
        if (bytes == 0) return;
        const Current current(*device_);
        device_->check(device_->api.download(to, from, bytes, stream_), "cuMemcpyDtoHAsync");
    }
    void copy(DevicePtr to, DevicePtr from, std::size_t bytes) override {
        if (bytes == 0) return;
        const Current current(*device_);
        device_->check(device_->api.copy(to, from, bytes, stream_), "cuMemcpyDtoDAsync");
    }
    void copy_across(DevicePtr to, const Device& to_device, DevicePtr from, const Device& from_device, std::size_t bytes) override {
        if (bytes == 0) return;
        const auto* const target = dynamic_cast<const DriverDevice*>(&to_device);
        const auto* const source = dynamic_cast<const DriverDevice*>(&from_device);
        if (target == nullptr || source == nullptr)
            throw Error(ErrorCode::unimplemented, ErrorCategory::runtime, "there is no way between these devices");
        const Current current(*device_);
        device_->check(device_->api.copy_peer(to, target->impl().context, from, source->impl().context, bytes, stream_), "cuMemcpyPeerAsync");
    }
    void wait_for_default() override {
        refuse_recording("wait_for_default");
        const Current current(*device_);
        device_->check(device_->api.event_record(ready_, CU_STREAM_LEGACY), "cuEventRecord");
        device_->check(device_->api.stream_wait_event(stream_, ready_, 0), "cuStreamWaitEvent");
    }
    void fill(DevicePtr to, std::uint8_t value, std::size_t bytes) override {
        if (bytes == 0) return;
        const Current current(*device_);
        device_->check(device_->api.fill(to, value, bytes, stream_), "cuMemsetD8Async");
    }
    void launch(Kernel kernel, const Launch& launch, std::span<void* const> arguments) override {
        const Current current(*device_);
        CUlaunchAttribute overlap{};
        overlap.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
        overlap.value.programmaticStreamSerializationAllowed = 1;
        CUlaunchConfig config{};
        config.gridDimX = launch.grid[0];
        config.gridDimY = launch.grid[1];
        config.gridDimZ = launch.grid[2];
        config.blockDimX = launch.block[0];
        config.blockDimY = launch.block[1];
        config.blockDimZ = launch.block[2];
        config.hStream = stream_;
        config.attrs = &overlap;
        config.numAttrs = device_->capabilities.compute_major >= 9 ? 1 : 0;  // every kernel waits by itself then (driver/overlap.hpp)
        device_->check(device_->api.launch(&config, static_cast<CUfunction>(kernel), const_cast<void**>(arguments.data()), nullptr),
                       "cuLaunchKernelEx");
    }
    void synchronize() override {
        refuse_recording("synchronize");
        const Current current(*device_);
        device_->check(device_->api.stream_synchronize(stream_), "cuStreamSynchronize");
    }
    double lap_us() override {
        refuse_recording("lap_us");
        const Current current(*device_);
        device_->check(device_->api.event_record(now_, stream_), "cuEventRecord");
        device_->check(device_->api.event_synchronize(now_), "cuEventSynchronize");
        float elapsed_ms = 0;
        device_->check(device_->api.event_elapsed(&elapsed_ms, lap_, now_), "cuEventElapsedTime");
        std::swap(lap_, now_);
        return 1e3 * static_cast<double>(elapsed_ms);
    }
    void begin_recording() override {
        refuse_recording("begin_recording");
        const Current current(*device_);
        device_->check(device_->api.capture_begin(stream_, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), "cuStreamBeginCapture");
        recording_ = true;
    }
    std::unique_ptr<RecordedGraph> end_recording() override {
        if (!recording_) throw Error(ErrorCode::internal, ErrorCategory::runtime, "end_recording: the stream doesn't record");
        const Current current(*device_);
        recording_ = false;
        CUgraph graph = nullptr;
        CUgraphExec executable = nullptr;
        device_->check(device_->api.capture_end(stream_, &graph), "cuStreamEndCapture");
        const auto result = device_->api.graph_instantiate(&executable, graph, 0);
        device_->note(device_->api.graph_destroy(graph), "cuGraphDestroy");
        device_->check(result, "cuGraphInstantiate");
        return std::make_unique<DriverGraph>(device_, executable);
    }
    void launch(RecordedGraph& graph) override {
        const Current current(*device_);
        device_->check(device_->api.graph_launch(static_cast<DriverGraph&>(graph).handle(), stream_), "cuGraphLaunch");
    }
    void* native() noexcept override {
        device_->note(device_->api.context_set(device_->context), "cuCtxSetCurrent");
        return stream_;
    }

private:
    void refuse_recording(const char* doing) const {
        if (recording_) throw Error(ErrorCode::internal, ErrorCategory::runtime, std::string(doing) + " can't be recorded");
    }
    void close() noexcept {
        const auto& api = device_->api;
        if (recording_) {
            CUgraph graph = nullptr;
            device_->note(api.capture_end(stream_, &graph), "cuStreamEndCapture");
            if (graph != nullptr) device_->note(api.graph_destroy(graph), "cuGraphDestroy");
        }
        // Work under way still uses memory that the owner frees next.
        if (stream_ != nullptr) device_->note(api.stream_synchronize(stream_), "cuStreamSynchronize");
        for (auto* const event : {lap_, now_, ready_}) {
            if (event != nullptr) device_->note(api.event_destroy(event), "cuEventDestroy");
        }
        if (stream_ != nullptr) device_->note(api.stream_destroy(stream_), "cuStreamDestroy");
    }

    std::shared_ptr<DriverDevice::Impl> device_;
    CUstream stream_ = nullptr;
    CUevent lap_ = nullptr, now_ = nullptr, ready_ = nullptr;
    bool recording_ = false;
};

}  // namespace

DriverDevice::DriverDevice(int ordinal) : impl_(std::make_shared<Impl>(ordinal)) {}
DriverDevice::~DriverDevice() = default;

const Capabilities& DriverDevice::capabilities() const noexcept { return impl_->capabilities; }

DevicePtr DriverDevice::allocate(std::size_t bytes) {
    if (bytes == 0) return 0;
    const Current current(*impl_);
    CUdeviceptr pointer = 0;
    const auto result = impl_->api.memory_allocate(&pointer, bytes);
    if (result == CUDA_ERROR_OUT_OF_MEMORY) {
        throw Error(ErrorCode::resource_exhausted, ErrorCategory::runtime, "the memory of " + impl_->capabilities.name + " is used up",
                    {.expected = std::to_string(bytes) + " bytes",
                     .found = std::to_string(free_bytes()) + " bytes free, " + std::to_string(allocated_bytes()) + " in use here",
                     .advice = "undeploy models, choose smaller batches, or use another device"});
    }
    impl_->check(result, "cuMemAlloc of " + std::to_string(bytes) + " bytes");
    const std::lock_guard lock(impl_->mutex);
    impl_->allocations.emplace(pointer, bytes);
    impl_->allocated_bytes += static_cast<std::int64_t>(bytes);
    return pointer;
}

void DriverDevice::release(DevicePtr pointer) noexcept {
    if (pointer == 0) return;
    quietly(*impl_, [&] {
        // This thread may record meanwhile; freeing is no part of the recording.
        auto mode = CU_STREAM_CAPTURE_MODE_RELAXED;
        impl_->note(impl_->api.capture_mode(&mode), "cuThreadExchangeStreamCaptureMode");
        impl_->note(impl_->api.memory_free(pointer), "cuMemFree");
        impl_->note(impl_->api.capture_mode(&mode), "cuThreadExchangeStreamCaptureMode");
    });
    const std::lock_guard lock(impl_->mutex);
    const auto found = impl_->allocations.find(pointer);
    if (found == impl_->allocations.end()) return;
    impl_->allocated_bytes -= static_cast<std::int64_t>(found->second);
    impl_->allocations.erase(found);
}

void* DriverDevice::allocate_pinned(std::size_t bytes) {
    if (bytes == 0) return nullptr;
    const Current current(*impl_);
    void* pointer = nullptr;
    impl_->check(impl_->api.host_allocate(&pointer, bytes, CU_MEMHOSTALLOC_PORTABLE), "cuMemHostAlloc of " + std::to_string(bytes) + " bytes");
    return pointer;
}

void DriverDevice::release_pinned(void* pointer) noexcept {
    if (pointer == nullptr) return;
    quietly(*impl_, [&] { impl_->note(impl_->api.host_free(pointer), "cuMemFreeHost"); });
}

std::shared_ptr<Module> DriverDevice::load(const std::string& source) {
    const auto& able = impl_->capabilities;
    const auto code = compile_kernels(
        with_overlap(source),
        {.compute = able.compute_major * 10 + able.compute_minor, .threads_per_block = able.threads_per_block, .driver_version = impl_->api.version});
    return std::make_shared<DriverModule>(impl_, code);
}

std::unique_ptr<Stream> DriverDevice::create_stream() { return std::make_unique<DriverStream>(impl_); }

std::string DriverDevice::failure() const {
    const std::lock_guard lock(impl_->mutex);
    return impl_->failure;
}

std::int64_t DriverDevice::free_bytes() const {
    const Current current(*impl_);
    std::size_t free = 0, total = 0;
    impl_->check(impl_->api.memory_info(&free, &total), "cuMemGetInfo");
    return static_cast<std::int64_t>(free);
}

std::int64_t DriverDevice::context_bytes() const {
    const auto now = impl_->free_now();
    if (!now || !impl_->free_before) return 0;
    std::int64_t given = 0;
    const std::lock_guard lock(impl_->mutex);
    for (const auto& [pointer, bytes] : impl_->allocations) given += allocation_bytes(static_cast<std::int64_t>(bytes));
    return std::max<std::int64_t>(*impl_->free_before - *now - given, 0);
}

std::int64_t DriverDevice::allocated_bytes() const {
    const std::lock_guard lock(impl_->mutex);
    return impl_->allocated_bytes;
}

bool DriverDevice::is_pinned(const void* pointer) const {
    // An address that the driver doesn't know is no error here: its attributes are 0.
    unsigned type = 0;
    CUpointer_attribute which[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE};
    void* values[] = {&type};
    const Current current(*impl_);
    const auto result = impl_->api.pointer_attributes(1, which, values, reinterpret_cast<CUdeviceptr>(pointer));
    return result == CUDA_SUCCESS && type == CU_MEMORYTYPE_HOST;
}

bool DriverDevice::owns(DevicePtr pointer, std::size_t bytes) const {
    unsigned type = 0;
    int device = -1;
    CUpointer_attribute which[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL};
    void* values[] = {&type, &device};
    const Current current(*impl_);
    if (impl_->api.pointer_attributes(2, which, values, pointer) != CUDA_SUCCESS || type != CU_MEMORYTYPE_DEVICE || device != impl_->ordinal)
        return false;
    CUdeviceptr base = 0;
    std::size_t size = 0;
    // Memory of virtual address ranges (expandable segments) has no one range: what the driver said of its beginning must do.
    if (impl_->api.pointer_range(&base, &size, pointer) != CUDA_SUCCESS) return true;
    return pointer - base + bytes <= size;
}

void DriverDevice::synchronize() {
    const Current current(*impl_);
    impl_->check(impl_->api.context_synchronize(), "cuCtxSynchronize");
}

int DriverDevice::ordinal() const noexcept { return impl_->ordinal; }

int DriverDevice::driver_version() const noexcept { return impl_->api.version; }

void DriverDevice::make_current() const { impl_->check(impl_->api.context_set(impl_->context), "cuCtxSetCurrent"); }

}  // namespace ai_vmm::cuda
