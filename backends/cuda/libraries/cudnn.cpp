// SPDX-License-Identifier: Apache-2.0
/// cuDNN's graph interface through cudnn-frontend, which is included here alone (it takes long to compile). No symbol of cuDNN or of the CUDA runtime
/// is linked: the frontend looks them up in `cudnn_dlhandle`. What it would ask the runtime for is given to it instead (the architecture) or turned
/// off (CUDA graphs that keep plans alive), so that no libcudart is needed.
#include "libraries/cudnn.hpp"

#include <cudnn_frontend.h>
#include <fmt/format.h>

#include <array>
#include <chrono>
#include <map>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "ai_vmm/error.hpp"
#include "base/log.hpp"
#include "libraries/cudnn_handle.hpp"
#include "libraries/library_files.hpp"

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;
}

namespace ai_vmm::cuda {
namespace {

namespace fe = cudnn_frontend;
using fe::graph::Graph;
using fe::graph::Tensor_attributes;
using Tensor = std::shared_ptr<Tensor_attributes>;

constexpr std::string_view kChoicePrefix = "cudnn-plan ";

std::optional<fe::DataType_t> data_type(Type type) {
    switch (type) {
        case Type::f32: return fe::DataType_t::FLOAT;
        case Type::f16: return fe::DataType_t::HALF;
        case Type::bf16: return fe::DataType_t::BFLOAT16;
        default: return {};
    }
}

/// Strides of (N, C, spatial..) that lies channels-last in memory.
Dims channels_last(const Dims& dims) {
    Dims strides(dims.size());
    std::int64_t stride = 1;
    strides[1] = stride;
    stride *= dims[1];
    for (std::size_t i = dims.size() - 1; i >= 2; --i) {
        strides[i] = stride;
        stride *= dims[i];
    }
    strides[0] = stride;
    return strides;
}

Dims joined(std::int64_t first, std::int64_t second, const Dims& rest) {
    Dims dims = {first, second};
    dims.insert(dims.end(), rest.begin(), rest.end());
    return dims;
}

Tensor tensor(Graph& graph, std::int64_t uid, const Dims& dims, const Dims& strides, fe::DataType_t type) {
    return graph.tensor(Tensor_attributes().set_uid(uid).set_dim(dims).set_stride(strides).set_data_type(type));
}

std::optional<fe::PointwiseMode_t> pointwise(Activation activation) {
    switch (activation) {
        case Activation::relu:
        case Activation::relu6: return fe::PointwiseMode_t::RELU_FWD;
        case Activation::gelu_tanh: return fe::PointwiseMode_t::GELU_APPROX_TANH_FWD;
        case Activation::gelu_erf: return fe::PointwiseMode_t::GELU_FWD;
        case Activation::sigmoid: return fe::PointwiseMode_t::SIGMOID_FWD;
        case Activation::tanh: return fe::PointwiseMode_t::TANH_FWD;
        case Activation::silu: return fe::PointwiseMode_t::SWISH_FWD;
        default: return {};
    }
}

/// The types that the sums of a convolution may leave it with, in the order of asking: i8 is added up in i32 in any case, but versions differ in what
/// their engines want to see behind that.
std::vector<fe::DataType_t> types_of_sums(const ConvolutionSpec& s) {
    if (s.type != Type::i8) return {fe::DataType_t::FLOAT};
    return {fe::DataType_t::INT32, fe::DataType_t::FLOAT};
}

/// Numerics of engines that a specification does not allow.
std::vector<fe::NumericalNote_t> refused_notes(bool true_f32) {
    std::vector<fe::NumericalNote_t> notes = {fe::NumericalNote_t::REDUCED_PRECISION_REDUCTION, fe::NumericalNote_t::WINOGRAD_TILE_13x13,
                                              fe::NumericalNote_t::NONDETERMINISTIC};
    if (true_f32) {
        notes.push_back(fe::NumericalNote_t::TENSOR_CORE);  // for f32 that is TF32
        notes.push_back(fe::NumericalNote_t::DOWN_CONVERT_INPUTS);
    }
    return notes;
}

/// A graph with one built plan; deserialized ones have a single plan and no structure.
struct Plan {
    std::shared_ptr<Graph> graph;
    std::optional<std::int64_t> index;  ///< nothing: the only one
    std::size_t workspace_bytes = 0;
};

fe::error_t execute(const Plan& plan, cudnnHandle_t handle, std::unordered_map<std::int64_t, void*>& addresses, void* workspace) {
    return plan.index ? plan.graph->execute_plan_at_index(handle, addresses, workspace, *plan.index)
                      : plan.graph->execute(handle, addresses, workspace);
}

/// A plan that can be run: buffer i is the tensor with uid i + 1.
class GraphCall final : public LibraryCall {
public:
    GraphCall(std::shared_ptr<CudnnHandle> handle, Plan plan, std::size_t buffers, std::string text)
        : handle_(std::move(handle)), plan_(std::move(plan)), text_(std::move(text)) {
        for (std::size_t i = 0; i < buffers; ++i) addresses_[static_cast<std::int64_t>(i) + 1] = nullptr;
    }
    ~GraphCall() override {
        const std::lock_guard lock(handle_->mutex);
        plan_.graph.reset();
    }
    GraphCall(const GraphCall&) = delete;
    GraphCall& operator=(const GraphCall&) = delete;

    [[nodiscard]] std::size_t workspace_bytes() const override { return plan_.workspace_bytes; }

    void run(Stream& stream, std::span<const std::uint64_t> buffers, std::uint64_t workspace) override {
        require_buffers(addresses_.size(), buffers.size(), text_);
        const std::lock_guard lock(handle_->mutex);
        handle_->use(stream);
        for (std::size_t i = 0; i < buffers.size(); ++i) addresses_[static_cast<std::int64_t>(i) + 1] = reinterpret_cast<void*>(buffers[i]);
        std::string failure;
        try {
            fe::error_t status = execute(plan_, handle_->handle, addresses_, reinterpret_cast<void*>(workspace));
            if (status.is_good()) [[likely]]
                return;
            failure = status.get_message();
        } catch (const std::exception& error) {
            failure = error.what();
        }
        throw Error(ErrorCode::internal, ErrorCategory::runtime, "cuDNN: '" + text_ + "' failed: " + failure);
    }

    [[nodiscard]] std::string describe() const override {
        std::string name;
        try {
            if (plan_.index) (void)plan_.graph->get_plan_name_at_index(*plan_.index, name);
        } catch (const std::exception&) {  // a report without the engine's name
        }
        return fmt::format("cuDNN {} {}", handle_->version, name.empty() ? "stored plan" : name);
    }

    [[nodiscard]] std::string choice() const override {
        if (!kept_choice_.empty()) return kept_choice_;
        try {
            const std::lock_guard lock(handle_->mutex);
            std::vector<std::uint8_t> bytes;
            // Structure is left out: the specification says it.
            if (plan_.graph->serialize(bytes, false).is_bad()) return {};
            return fmt::format("{}{}\n", kChoicePrefix, handle_->version) + std::string(bytes.begin(), bytes.end());
        } catch (const std::exception& error) {
            base::log_debug("cuDNN: the plan of '" + text_ + "' can't be kept: " + error.what());
            return {};
        }
    }
    void keep_choice(std::string choice) { kept_choice_ = std::move(choice); }

private:
    std::shared_ptr<CudnnHandle> handle_;
    Plan plan_;
    std::string text_, kept_choice_;
    std::unordered_map<std::int64_t, void*> addresses_;
};

class OpenCudnn final : public Cudnn {
public:
    OpenCudnn(Device& device, std::shared_ptr<CudnnHandle> handle) : device_(device), handle_(std::move(handle)) {}

    [[nodiscard]] std::size_t version() const noexcept override { return handle_->version; }
    [[nodiscard]] std::unique_ptr<LibraryCall> make(const ConvolutionSpec& spec, const Tuning& tuning) override;
    [[nodiscard]] std::unique_ptr<LibraryCall> make(const AttentionSpec& spec, const Tuning& tuning) override;
    [[nodiscard]] std::unique_ptr<RecurrentCall> make(const RecurrentSpec& spec, const Tuning& tuning) override {
        return make_recurrent(handle_, device_, spec, tuning);
    }

private:
    [[nodiscard]] std::shared_ptr<Graph> empty_graph(fe::DataType_t type) const {
        auto graph = std::make_shared<Graph>();
        const Capabilities& device = device_.capabilities();
        graph->set_io_data_type(type)
            .set_intermediate_data_type(fe::DataType_t::FLOAT)
            .set_compute_data_type(fe::DataType_t::FLOAT)
            .set_sm_version(device.compute_major * 10 + device.compute_minor);
        graph->set_cuda_graph_retention(fe::CudaGraphRetention_t::NONE);
        return graph;
    }

    /// @param type  of X and W; `result` of Y
    [[nodiscard]] std::shared_ptr<Graph> describe(const ConvolutionSpec& s, fe::DataType_t type, fe::DataType_t result, fe::DataType_t sums) const;
    /// The call for a graph, from a stored choice, by measuring or by the library's own order.
    /// @param fastest_engine  the engine to take without measuring the others, if there is one of that name; becomes the one that measuring finds;
    /// may be null
    [[nodiscard]] std::unique_ptr<LibraryCall> finish(const std::function<std::shared_ptr<Graph>()>& describe_graph,
                                                      std::span<const BufferExtent> extents, const std::string& text,
                                                      const std::vector<fe::NumericalNote_t>& refused, const Tuning& tuning,
                                                      std::string* fastest_engine = nullptr);
    [[nodiscard]] std::unique_ptr<GraphCall> restore(const std::string& choice, std::size_t buffers, const std::string& text) const;
    [[nodiscard]] std::optional<Plan> build(const std::shared_ptr<Graph>& graph, std::int64_t index, std::size_t workspace_limit) const;

    Device& device_;
    std::shared_ptr<CudnnHandle> handle_;
    std::mutex fastest_mutex_;                    // guards fastest_
    std::map<std::string, std::string> fastest_;  // engines by kind of attention
};

std::unique_ptr<GraphCall> OpenCudnn::restore(const std::string& choice, std::size_t buffers, const std::string& text) const {
    const std::string header = fmt::format("{}{}\n", kChoicePrefix, handle_->version);
    if (!choice.starts_with(header)) return nullptr;
    const auto begin = std::chrono::steady_clock::now();
    const std::lock_guard lock(handle_->mutex);
    auto graph = std::make_shared<Graph>();
    const Capabilities& device = device_.capabilities();
    graph->set_sm_version(device.compute_major * 10 + device.compute_minor);
    graph->set_cuda_graph_retention(fe::CudaGraphRetention_t::NONE);
    const std::vector<std::uint8_t> bytes(choice.begin() + static_cast<std::ptrdiff_t>(header.size()), choice.end());
    std::int64_t workspace = 0;
    std::string failure;
    try {
        fe::error_t status = graph->deserialize(handle_->handle, bytes, false, false);
        if (status.is_good()) status = graph->get_workspace_size(workspace);
        if (status.is_bad()) failure = status.get_message();
    } catch (const std::exception& error) {
        failure = error.what();
    }
    if (!failure.empty()) {
        base::log_debug("cuDNN: the stored plan of '" + text + "' is not taken: " + failure);
        return nullptr;
    }
    auto call = std::make_unique<GraphCall>(handle_, Plan{std::move(graph), {}, static_cast<std::size_t>(workspace)}, buffers, text);
    call->keep_choice(choice);
    base::log_debug(fmt::format("cuDNN: the stored plan of '{}' after {:.1f} ms", text,
                                std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count()));
    return call;
}

std::optional<Plan> OpenCudnn::build(const std::shared_ptr<Graph>& graph, std::int64_t index, std::size_t workspace_limit) const {
    const std::lock_guard lock(handle_->mutex);
    std::int64_t workspace = 0;
    try {
        if (graph->build_plan_at_index(index).is_bad() || graph->get_workspace_size_plan_at_index(index, workspace).is_bad()) return {};
    } catch (const std::exception&) {  // an engine that can't be built is none
        return {};
    }
    if (workspace < 0 || static_cast<std::size_t>(workspace) > workspace_limit) return {};
    return Plan{graph, index, static_cast<std::size_t>(workspace)};
}

std::unique_ptr<LibraryCall> OpenCudnn::finish(const std::function<std::shared_ptr<Graph>()>& describe_graph, std::span<const BufferExtent> extents,
                                               const std::string& text, const std::vector<fe::NumericalNote_t>& refused, const Tuning& tuning,
                                               std::string* fastest_engine) {
    const auto begin = std::chrono::steady_clock::now();
    try {
        if (auto call = restore(tuning.choice, extents.size(), text)) return call;
        const auto refuse = [&text](const char* step, fe::error_t& status) {
            base::log_debug(fmt::format("cuDNN takes no '{}' ({}): {}", text, step, status.get_message()));
            return nullptr;
        };
        std::unique_lock lock(handle_->mutex);
        const auto graph = describe_graph();
        if (auto status = graph->validate(); status.is_bad()) return refuse("validate", status);
        if (auto status = graph->build_operation_graph(handle_->handle); status.is_bad()) return refuse("build_operation_graph", status);
        if (auto status = graph->create_execution_plans({fe::HeurMode_t::A, fe::HeurMode_t::FALLBACK}); status.is_bad()) {
            return refuse("create_execution_plans", status);
        }
        graph->deselect_numeric_notes(refused);
        graph->deselect_workspace_greater_than(static_cast<std::int64_t>(tuning.workspace_limit_bytes));
        lock.unlock();

        const auto count = static_cast<int>(graph->get_execution_plan_count());
        const auto name_of = [&](int i) {
            std::string name;
            return graph->get_plan_name_at_index(i, name).is_good() ? name : std::string();
        };
        std::optional<Plan> chosen;
        if (tuning.measure && fastest_engine != nullptr && !fastest_engine->empty()) {
            for (int i = 0; i < count && !chosen; ++i) {
                if (name_of(i) == *fastest_engine) chosen = build(graph, i, tuning.workspace_limit_bytes);
            }
        }
        if (!chosen && tuning.measure && count > 1) {
            try {
                const auto best = fastest(device_, tuning, extents, count, [&](int i) -> std::optional<PreparedCandidate> {
                    auto plan = build(graph, i, tuning.workspace_limit_bytes);
                    if (!plan) return {};
                    const std::size_t bytes = plan->workspace_bytes;
                    auto call = std::make_shared<GraphCall>(handle_, std::move(*plan), extents.size(), text);
                    return PreparedCandidate{bytes, [call](Stream& stream, std::span<const std::uint64_t> buffers, std::uint64_t workspace) {
                                                 call->run(stream, buffers, workspace);
                                             }};
                });
                if (best) chosen = build(graph, *best, tuning.workspace_limit_bytes);
                if (best && fastest_engine != nullptr) *fastest_engine = name_of(*best);
            } catch (const Error& error) {  // no room to measure: the library's own order stands
                if (error.code() != ErrorCode::resource_exhausted) throw;
            }
        }
        for (int i = 0; i < count && !chosen; ++i) chosen = build(graph, i, tuning.workspace_limit_bytes);
        if (!chosen) {
            base::log_debug(fmt::format("cuDNN takes no '{}': none of {} engines can be built", text, count));
            return nullptr;
        }
        auto call = std::make_unique<GraphCall>(handle_, std::move(*chosen), extents.size(), text);
        base::log_debug(fmt::format("cuDNN: {}, one of {}, for '{}' after {:.1f} ms", call->describe(), count, text,
                                    std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count()));
        return call;
    } catch (const Error&) {
        throw;
    } catch (const std::exception& error) {
        if (!device_.failure().empty()) throw Error(ErrorCode::internal, ErrorCategory::compilation, "cuDNN: '" + text + "': " + error.what());
        base::log_debug(fmt::format("cuDNN takes no '{}': {}", text, error.what()));
        return nullptr;
    }
}

/// One spatial dimension becomes two, of which the first has size 1.
ConvolutionSpec with_height(ConvolutionSpec s) {
    if (s.in.size() != 1) return s;
    for (Dims* ones : {&s.in, &s.kernel, &s.out, &s.stride, &s.dilation}) ones->insert(ones->begin(), 1);
    for (Dims* zeros : {&s.pad_begin, &s.pad_end}) zeros->insert(zeros->begin(), 0);
    return s;
}

/// Of X and W, and of Y: floats all through, or i8 scaled to floats. The sums themselves, in i32, are not asked for: engines of cuDNN 9.14 that say
/// they store those stored others on an H100.
std::optional<std::pair<fe::DataType_t, fe::DataType_t>> types_of(const ConvolutionSpec& s) {
    const auto result = data_type(s.result);
    if (!result) return {};
    if (s.type == Type::i8)
        return s.scale && !s.transposed && is_float(s.result) ? std::optional(std::pair(fe::DataType_t::INT8, *result)) : std::nullopt;
    return s.result == s.type && !s.scale ? std::optional(std::pair(*result, *result)) : std::nullopt;
}

bool well_formed(const ConvolutionSpec& s) {
    const std::size_t rank = s.in.size();
    if (rank < 1 || rank > 3 || s.batch <= 0 || s.groups <= 0 || s.channels_in <= 0 || s.channels_out <= 0) return false;
    if (s.channels_in % s.groups != 0 || s.channels_out % s.groups != 0) return false;
    for (const Dims* dims : {&s.kernel, &s.out, &s.stride, &s.dilation, &s.pad_begin, &s.pad_end}) {
        if (dims->size() != rank) return false;
    }
    return elements(s.in) > 0 && elements(s.out) > 0 && elements(s.kernel) > 0;
}

std::shared_ptr<Graph> OpenCudnn::describe(const ConvolutionSpec& s, fe::DataType_t type, fe::DataType_t result, fe::DataType_t sums) const {
    auto graph = empty_graph(result);
    const Dims x_dims = joined(s.batch, s.channels_in, s.in);
    const Dims y_dims = joined(s.batch, s.channels_out, s.out);
    const Dims w_dims =
        s.transposed ? joined(s.channels_in, s.channels_out / s.groups, s.kernel) : joined(s.channels_out, s.channels_in / s.groups, s.kernel);
    const Tensor x = tensor(*graph, 1, x_dims, channels_last(x_dims), type);
    const Tensor w = tensor(*graph, 2, w_dims, channels_last(w_dims), type);
    const auto convolved = [&](auto attributes) {
        attributes.set_pre_padding(s.pad_begin).set_post_padding(s.pad_end).set_stride(s.stride).set_dilation(s.dilation);
        if (type == fe::DataType_t::INT8) attributes.set_compute_data_type(fe::DataType_t::INT32);
        return attributes;
    };
    Tensor y = s.transposed ? graph->conv_dgrad(x, w, convolved(fe::graph::Conv_dgrad_attributes()))
                            : graph->conv_fprop(x, w, convolved(fe::graph::Conv_fprop_attributes()));
    const auto shaped = [&] { y->set_dim(y_dims).set_stride(channels_last(y_dims)); };
    shaped();
    if (type == fe::DataType_t::INT8) y->set_data_type(sums);
    const auto combine = [&](fe::PointwiseMode_t with, const Tensor& other) {
        y = graph->pointwise(y, other, fe::graph::Pointwise_attributes().set_mode(with));
        shaped();
    };
    std::int64_t uid = 4;
    const auto per_channel = [&](fe::DataType_t of) {
        const Dims dims = joined(1, s.channels_out, Dims(s.out.size(), 1));
        return tensor(*graph, uid++, dims, channels_last(dims), of);
    };
    if (s.scale) combine(fe::PointwiseMode_t::MUL, per_channel(fe::DataType_t::FLOAT));
    Tensor bias;
    if (s.bias) bias = per_channel(*data_type(s.bias_type));
    // First: the order that cuDNN's fused engines know.
    if (s.residual) combine(fe::PointwiseMode_t::ADD, tensor(*graph, uid, y_dims, channels_last(y_dims), result));
    if (s.bias) combine(fe::PointwiseMode_t::ADD, bias);
    if (const auto mode = pointwise(s.activation)) {
        auto attributes = fe::graph::Pointwise_attributes().set_mode(*mode);
        if (s.activation == Activation::relu6) attributes.set_relu_lower_clip(0.0F).set_relu_upper_clip(6.0F);
        y = graph->pointwise(y, attributes);
        shaped();
    }
    y->set_output(true).set_uid(3).set_data_type(result);
    return graph;
}

std::unique_ptr<LibraryCall> OpenCudnn::make(const ConvolutionSpec& given, const Tuning& tuning) {
    const auto types = types_of(given);
    if (!types || !well_formed(given) || (given.bias && !data_type(given.bias_type)) ||
        (given.activation != Activation::none && !pointwise(given.activation)))
        return nullptr;
    const ConvolutionSpec s = with_height(given);
    for (const fe::DataType_t sums : types_of_sums(s)) {
        const auto describe_graph = [&] { return describe(s, types->first, types->second, sums); };
        if (auto call = finish(describe_graph, buffers(given), to_string(given), refused_notes(s.type == Type::f32 && !s.tf32), tuning)) return call;
    }
    return nullptr;
}

/// Dimensions of the mask as cuDNN wants them: queries and keys in full, repeated through a stride of 0.
std::optional<std::pair<Dims, Dims>> full_mask(const AttentionSpec& s) {
    if (s.mask_dims.size() != 4 || s.mask_strides.size() != 4) return {};
    const Dims full = {s.batch, s.heads, s.queries, s.keys};
    Dims dims = s.mask_dims;
    Dims strides = s.mask_strides;
    for (std::size_t i = 0; i < 4; ++i) {
        if (dims[i] != full[i] && dims[i] != 1) return {};
        if (i < 2 || dims[i] == full[i]) continue;
        dims[i] = full[i];
        strides[i] = 0;
    }
    return std::pair(dims, strides);
}

std::unique_ptr<LibraryCall> OpenCudnn::make(const AttentionSpec& s, const Tuning& tuning) {
    if (s.type != Type::f16 && s.type != Type::bf16) return nullptr;
    for (const std::int64_t size : {s.batch, s.heads, s.kv_heads, s.queries, s.keys, s.head_size, s.value_size}) {
        if (size <= 0) return nullptr;
    }
    if (s.heads % s.kv_heads != 0) return nullptr;
    for (const Dims* strides : {&s.q_strides, &s.k_strides, &s.v_strides, &s.o_strides}) {
        if (strides->size() != 4 || strides->back() != 1) return nullptr;
    }
    const auto mask = s.mask ? full_mask(s) : std::nullopt;
    if (s.mask && !mask) return nullptr;
    const auto type = *data_type(s.type);
    const auto describe_graph = [&] {
        auto graph = empty_graph(type);
        const Tensor q = tensor(*graph, 1, {s.batch, s.heads, s.queries, s.head_size}, s.q_strides, type);
        const Tensor k = tensor(*graph, 2, {s.batch, s.kv_heads, s.keys, s.head_size}, s.k_strides, type);
        const Tensor v = tensor(*graph, 3, {s.batch, s.kv_heads, s.keys, s.value_size}, s.v_strides, type);
        auto attributes = fe::graph::SDPA_attributes().set_name("attention").set_generate_stats(false).set_attn_scale(s.scale);
        if (s.causal) attributes.set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT).set_diagonal_band_right_bound(0);
        if (mask) attributes.set_bias(tensor(*graph, 5, mask->first, mask->second, type));
        const Tensor o = graph->sdpa(q, k, v, attributes)[0];
        o->set_output(true).set_uid(4).set_dim({s.batch, s.heads, s.queries, s.value_size}).set_stride(s.o_strides).set_data_type(type);
        return graph;
    };
    // Engines take hundreds of milliseconds to build. The one that was the fastest for other lengths is not held against the others again.
    AttentionSpec any_length = s;
    any_length.batch = any_length.queries = any_length.keys = 0;
    for (Dims* dims : {&any_length.q_strides, &any_length.k_strides, &any_length.v_strides, &any_length.o_strides, &any_length.mask_dims,
                       &any_length.mask_strides})
        dims->clear();
    const std::string kind = to_string(any_length);
    std::string fastest;
    {
        const std::lock_guard lock(fastest_mutex_);
        if (const auto known = fastest_.find(kind); known != fastest_.end()) fastest = known->second;
    }
    auto call = finish(describe_graph, buffers(s), to_string(s), {}, tuning, &fastest);
    if (!fastest.empty()) {
        const std::lock_guard lock(fastest_mutex_);
        fastest_[kind] = fastest;
    }
    return call;
}

}  // namespace

std::shared_ptr<Cudnn> Cudnn::open(Device& device, std::string& reason) {
    static const SharedLibrary& library = cudnn_file();
    if (!library) {
        reason = library.reason();
        return nullptr;
    }
    auto handle = std::make_shared<CudnnHandle>();
    std::string missing;
    if (!handle->dnn.load(library, missing)) {
        reason = fmt::format("cuDNN at '{}' has no {}", library.path(), missing);
        return nullptr;
    }
    static const bool told = [] {
        fe::cudnn_dlhandle = library.handle();
        return true;
    }();
    (void)told;
    handle->version = handle->dnn.get_version();
    if (const cudnnStatus_t status = handle->dnn.create(&handle->handle); status != CUDNN_STATUS_SUCCESS) {
        handle->handle = nullptr;
        reason = fmt::format("cuDNN {} at '{}' does not start: {}", handle->version, library.path(), handle->dnn.error_string(status));
        return nullptr;
    }
    return std::make_shared<OpenCudnn>(device, std::move(handle));
}

}  // namespace ai_vmm::cuda
