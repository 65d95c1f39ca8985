// SPDX-License-Identifier: Apache-2.0
/// Recurrences by cudnnRNNForward(), which cuDNN's graph interface has no counterpart of.
#include <fmt/format.h>

#include <array>
#include <cstring>

#include "ai_vmm/error.hpp"
#include "base/log.hpp"
#include "libraries/cudnn_handle.hpp"
#include "libraries/recurrent_weights.hpp"

namespace ai_vmm::cuda {
namespace {

template <typename T>
class Descriptor {
public:
    Descriptor(const CudnnFunctions& dnn, cudnnStatus_t (*create)(T*), cudnnStatus_t (*destroy)(T)) : destroy_(destroy) {
        dnn.check(create(&value_), "creation of a descriptor");
    }
    ~Descriptor() {
        if (value_ != nullptr) (void)destroy_(value_);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    [[nodiscard]] T get() const noexcept { return value_; }

private:
    cudnnStatus_t (*destroy_)(T);
    T value_ = nullptr;
};

cudnnRNNMode_t mode(RecurrentSpec::Cell cell) {
    switch (cell) {
        case RecurrentSpec::Cell::lstm: return CUDNN_LSTM;
        case RecurrentSpec::Cell::gru_reset_after: return CUDNN_GRU;
        case RecurrentSpec::Cell::relu: return CUDNN_RNN_RELU;
        case RecurrentSpec::Cell::tanh: return CUDNN_RNN_TANH;
    }
    return CUDNN_LSTM;
}

cudnnDataType_t data_type(Type type) { return type == Type::f16 ? CUDNN_DATA_HALF : type == Type::bf16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT; }

cudnnMathType_t math_type(const RecurrentSpec& spec) {
    if (spec.type != Type::f32) return CUDNN_TENSOR_OP_MATH;
    return spec.tf32 ? CUDNN_DEFAULT_MATH : CUDNN_FMA_MATH;  // the default may use TF32
}

bool lstm(const RecurrentSpec& spec) { return spec.cell == RecurrentSpec::Cell::lstm; }

class Recurrence final : public RecurrentCall {
public:
    /// @throws Error(internal) the library has no such algorithm for the specification.
    Recurrence(std::shared_ptr<CudnnHandle> handle, Device& device, const RecurrentSpec& spec, cudnnRNNAlgo_t algorithm)
        : handle_(std::move(handle)),
          spec_(spec),
          algorithm_(algorithm),
          rnn_(handle_->dnn, handle_->dnn.rnn_create, handle_->dnn.rnn_destroy),
          dropout_(handle_->dnn, handle_->dnn.dropout_create, handle_->dnn.dropout_destroy),
          x_(handle_->dnn, handle_->dnn.rnn_data_create, handle_->dnn.rnn_data_destroy),
          y_(handle_->dnn, handle_->dnn.rnn_data_create, handle_->dnn.rnn_data_destroy),
          state_(handle_->dnn, handle_->dnn.tensor_create, handle_->dnn.tensor_destroy) {
        const CudnnFunctions& dnn = handle_->dnn;
        const auto narrow = [](std::int64_t value) { return static_cast<std::int32_t>(value); };
        dnn.check(dnn.dropout_set(dropout_.get(), handle_->handle, 0.0F, nullptr, 0, 0), "cudnnSetDropoutDescriptor");
        dnn.check(dnn.rnn_set(rnn_.get(), algorithm, mode(spec.cell), CUDNN_RNN_DOUBLE_BIAS,
                              spec.directions == 2 ? CUDNN_BIDIRECTIONAL : CUDNN_UNIDIRECTIONAL, CUDNN_LINEAR_INPUT, data_type(spec.type),
                              CUDNN_DATA_FLOAT, math_type(spec), narrow(spec.input), narrow(spec.hidden), narrow(spec.hidden), 1, dropout_.get(),
                              CUDNN_RNN_PADDED_IO_ENABLED),
                  "cudnnSetRNNDescriptor_v8");
        const std::vector<int> lengths(static_cast<std::size_t>(spec.batch), narrow(spec.steps));
        const auto sequence = [&](cudnnRNNDataDescriptor_t descriptor, std::int64_t size) {
            dnn.check(dnn.rnn_data_set(descriptor, data_type(spec.type), CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED, narrow(spec.steps),
                                       narrow(spec.batch), narrow(size), lengths.data(), nullptr),
                      "cudnnSetRNNDataDescriptor");
        };
        sequence(x_.get(), spec.input);
        sequence(y_.get(), spec.directions * spec.hidden);
        const std::array<int, 3> dims = {spec.directions, narrow(spec.batch), narrow(spec.hidden)};
        const std::array<int, 3> strides = {dims[1] * dims[2], dims[2], 1};
        dnn.check(dnn.tensor_set(state_.get(), data_type(spec.type), 3, dims.data(), strides.data()), "cudnnSetTensorNdDescriptor");
        std::size_t reserve = 0;
        dnn.check(dnn.rnn_temp_space(handle_->handle, rnn_.get(), CUDNN_FWD_MODE_INFERENCE, x_.get(), &workspace_bytes_, &reserve),
                  "cudnnGetRNNTempSpaceSizes");
        read_layout(device);
    }

    [[nodiscard]] std::size_t workspace_bytes() const override { return workspace_bytes_; }
    [[nodiscard]] std::size_t weight_bytes() const override { return layout_.bytes; }

    [[nodiscard]] std::vector<std::byte> pack_weights(std::span<const std::byte> w, std::span<const std::byte> r,
                                                      std::span<const std::byte> b) const override {
        return cuda::pack_weights(spec_, layout_, w, r, b);
    }

    void run(Stream& stream, std::span<const std::uint64_t> buffers, std::uint64_t workspace) override {
        const bool cells = lstm(spec_);
        require_buffers(cells ? 7 : 5, buffers.size(), to_string(spec_));
        const auto pointer = [](std::uint64_t address) { return reinterpret_cast<void*>(address); };
        std::size_t next = 0;
        void* const x = pointer(buffers[next++]);
        void* const h0 = pointer(buffers[next++]);
        void* const c0 = cells ? pointer(buffers[next++]) : nullptr;
        void* const weights = pointer(buffers[next++]);
        void* const y = pointer(buffers[next++]);
        void* const hn = pointer(buffers[next++]);
        void* const cn = cells ? pointer(buffers[next]) : nullptr;
        const std::lock_guard lock(handle_->mutex);
        handle_->use(stream);
        const CudnnFunctions& dnn = handle_->dnn;
        // Lengths on the device are not read since cuDNN 8.9.1: the descriptors' are.
        dnn.check(dnn.rnn_forward(handle_->handle, rnn_.get(), CUDNN_FWD_MODE_INFERENCE, nullptr, x_.get(), x, y_.get(), y, state_.get(), h0, hn,
                                  state_.get(), c0, cn, layout_.bytes, weights, workspace_bytes_, pointer(workspace), 0, nullptr),
                  "cudnnRNNForward");
    }

    [[nodiscard]] std::string describe() const override {
        constexpr const char* kNames[] = {"standard", "persistent", "dynamic", "persistent, small"};
        return fmt::format("cuDNN {} recurrence, {}", handle_->version, kNames[algorithm_]);
    }

    [[nodiscard]] std::string choice() const override { return fmt::format("cudnn-rnn {} {}", handle_->version, static_cast<int>(algorithm_)); }

private:
    /// Asks where each gate lies. Addresses are only computed, but the library is given memory that is the device's all the same.
    void read_layout(Device& device) {
        const CudnnFunctions& dnn = handle_->dnn;
        dnn.check(dnn.rnn_weight_space(handle_->handle, rnn_.get(), &layout_.bytes), "cudnnGetRNNWeightSpaceSize");
        const struct Memory {
            Device& device;
            DevicePtr address;
            ~Memory() { device.release(address); }
        } memory{device, device.allocate(layout_.bytes)};
        const Descriptor<cudnnTensorDescriptor_t> matrix(dnn, dnn.tensor_create, dnn.tensor_destroy);
        const Descriptor<cudnnTensorDescriptor_t> bias(dnn, dnn.tensor_create, dnn.tensor_destroy);
        const auto element = static_cast<std::size_t>(bits(spec_.type) / 8);
        const int count = gates(spec_.cell);
        layout_.directions.resize(static_cast<std::size_t>(spec_.directions));
        for (int direction = 0; direction < spec_.directions; ++direction) {
            for (int i = 0; i < 2 * count; ++i) {
                void* matrix_at = nullptr;
                void* bias_at = nullptr;
                dnn.check(dnn.rnn_weight_params(handle_->handle, rnn_.get(), direction, layout_.bytes, reinterpret_cast<const void*>(memory.address),
                                                i, matrix.get(), &matrix_at, bias.get(), &bias_at),
                          "cudnnGetRNNWeightParams");
                const auto columns = static_cast<std::size_t>(i < count ? spec_.input : spec_.hidden);
                const auto rows = static_cast<std::size_t>(spec_.hidden);
                layout_.directions[static_cast<std::size_t>(direction)].push_back(
                    {offset(memory.address, matrix_at, rows * columns * element), offset(memory.address, bias_at, rows * element)});
            }
        }
    }

    [[nodiscard]] std::size_t offset(DevicePtr base, const void* address, std::size_t bytes) const {
        const auto at = reinterpret_cast<DevicePtr>(address) - base;
        if (address == nullptr || at + bytes > layout_.bytes) {
            throw Error(ErrorCode::internal, ErrorCategory::compilation, "cuDNN: weights of '" + to_string(spec_) + "' lie outside their space");
        }
        return at;
    }

    std::shared_ptr<CudnnHandle> handle_;
    RecurrentSpec spec_;
    cudnnRNNAlgo_t algorithm_;
    Descriptor<cudnnRNNDescriptor_t> rnn_;
    Descriptor<cudnnDropoutDescriptor_t> dropout_;
    Descriptor<cudnnRNNDataDescriptor_t> x_, y_;
    Descriptor<cudnnTensorDescriptor_t> state_;
    std::size_t workspace_bytes_ = 0;
    RecurrentLayout layout_;
};

constexpr cudnnRNNAlgo_t kAlgorithms[] = {CUDNN_RNN_ALGO_STANDARD, CUDNN_RNN_ALGO_PERSIST_STATIC, CUDNN_RNN_ALGO_PERSIST_STATIC_SMALL_H};

}  // namespace

std::unique_ptr<RecurrentCall> make_recurrent(const std::shared_ptr<CudnnHandle>& handle, Device& device, const RecurrentSpec& spec,
                                              const Tuning& tuning) {
    if (spec.type != Type::f32 && spec.type != Type::f16 && spec.type != Type::bf16) return nullptr;
    for (const std::int64_t size : {spec.steps, spec.batch, spec.input, spec.hidden}) {
        if (size <= 0 || size > INT32_MAX) return nullptr;
    }
    if (spec.directions != 1 && spec.directions != 2) return nullptr;
    const auto make = [&](cudnnRNNAlgo_t algorithm) -> std::unique_ptr<Recurrence> {
        try {
            const std::lock_guard lock(handle->mutex);
            return std::make_unique<Recurrence>(handle, device, spec, algorithm);
        } catch (const Error& error) {
            if (!device.failure().empty() || error.code() == ErrorCode::resource_exhausted) throw;
            base::log_debug(fmt::format("cuDNN takes no '{}': {}", to_string(spec), error.what()));
            return nullptr;
        }
    };
    for (const cudnnRNNAlgo_t algorithm : kAlgorithms) {
        if (tuning.choice != fmt::format("cudnn-rnn {} {}", handle->version, static_cast<int>(algorithm))) continue;
        if (auto call = make(algorithm)) return call;
    }
    auto standard = make(CUDNN_RNN_ALGO_STANDARD);
    if (!standard || !tuning.measure) return standard;
    std::array<std::unique_ptr<Recurrence>, std::size(kAlgorithms)> calls;
    const auto extents = buffers(spec, standard->weight_bytes());
    try {
        const auto best = fastest(device, tuning, extents, static_cast<int>(calls.size()), [&](int i) -> std::optional<PreparedCandidate> {
            auto& call = calls[static_cast<std::size_t>(i)];
            call = make(kAlgorithms[i]);
            if (!call || call->weight_bytes() != standard->weight_bytes()) return {};
            return PreparedCandidate{call->workspace_bytes(), [&call](Stream& stream, std::span<const std::uint64_t> addresses,
                                                                      std::uint64_t workspace) { call->run(stream, addresses, workspace); }};
        });
        if (best) return std::move(calls[static_cast<std::size_t>(*best)]);
    } catch (const Error& error) {  // no room to measure
        if (error.code() != ErrorCode::resource_exhausted) throw;
    }
    return standard;
}

}  // namespace ai_vmm::cuda
