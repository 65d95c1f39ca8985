// SPDX-License-Identifier: Apache-2.0
#include "libraries/cublaslt.hpp"

#include <cublasLt.h>
#include <fmt/format.h>

#include <array>
#include <cstring>
#include <utility>

#include "ai_vmm/error.hpp"
#include "base/log.hpp"
#include "libraries/library_files.hpp"
#include "libraries/matmul_problem.hpp"

namespace ai_vmm::cuda {
namespace {

/// The library's functions, looked up once.
struct Functions {
    decltype(&cublasLtCreate) create = nullptr;
    decltype(&cublasLtDestroy) destroy = nullptr;
    decltype(&cublasLtGetVersion) get_version = nullptr;
    decltype(&cublasLtGetStatusString) status_string = nullptr;
    decltype(&cublasLtMatmulDescCreate) desc_create = nullptr;
    decltype(&cublasLtMatmulDescDestroy) desc_destroy = nullptr;
    decltype(&cublasLtMatmulDescSetAttribute) desc_set = nullptr;
    decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
    decltype(&cublasLtMatrixLayoutDestroy) layout_destroy = nullptr;
    decltype(&cublasLtMatrixLayoutSetAttribute) layout_set = nullptr;
    decltype(&cublasLtMatmulPreferenceCreate) preference_create = nullptr;
    decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
    decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;
    decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
    decltype(&cublasLtMatmulAlgoCheck) algo_check = nullptr;
    decltype(&cublasLtMatmulAlgoConfigGetAttribute) algo_config = nullptr;
    decltype(&cublasLtMatmul) matmul = nullptr;

    bool load(const SharedLibrary& library, std::string& missing) {
        return library.find(create, "cublasLtCreate", missing) && library.find(destroy, "cublasLtDestroy", missing) &&
               library.find(get_version, "cublasLtGetVersion", missing) && library.find(status_string, "cublasLtGetStatusString", missing) &&
               library.find(desc_create, "cublasLtMatmulDescCreate", missing) && library.find(desc_destroy, "cublasLtMatmulDescDestroy", missing) &&
               library.find(desc_set, "cublasLtMatmulDescSetAttribute", missing) &&
               library.find(layout_create, "cublasLtMatrixLayoutCreate", missing) &&
               library.find(layout_destroy, "cublasLtMatrixLayoutDestroy", missing) &&
               library.find(layout_set, "cublasLtMatrixLayoutSetAttribute", missing) &&
               library.find(preference_create, "cublasLtMatmulPreferenceCreate", missing) &&
               library.find(preference_destroy, "cublasLtMatmulPreferenceDestroy", missing) &&
               library.find(preference_set, "cublasLtMatmulPreferenceSetAttribute", missing) &&
               library.find(heuristic, "cublasLtMatmulAlgoGetHeuristic", missing) && library.find(algo_check, "cublasLtMatmulAlgoCheck", missing) &&
               library.find(algo_config, "cublasLtMatmulAlgoConfigGetAttribute", missing) && library.find(matmul, "cublasLtMatmul", missing);
    }

    void check(cublasStatus_t status, std::string_view what) const {
        if (status == CUBLAS_STATUS_SUCCESS) [[likely]]
            return;
        throw Error(ErrorCode::internal, ErrorCategory::runtime, fmt::format("cuBLASLt: {} failed: {}", what, status_string(status)));
    }
};

cudaDataType data_type(Type type) {
    switch (type) {
        case Type::f64: return CUDA_R_64F;
        case Type::f16: return CUDA_R_16F;
        case Type::bf16: return CUDA_R_16BF;
        case Type::f8e4m3: return CUDA_R_8F_E4M3;
        case Type::i8: return CUDA_R_8I;
        case Type::i32: return CUDA_R_32I;
        default: return CUDA_R_32F;  // lt_problem() lets no other type through
    }
}

std::pair<cublasComputeType_t, cudaDataType> compute_types(LtCompute compute) {
    switch (compute) {
        case LtCompute::tf32: return {CUBLAS_COMPUTE_32F_FAST_TF32, CUDA_R_32F};
        case LtCompute::f64: return {CUBLAS_COMPUTE_64F, CUDA_R_64F};
        case LtCompute::i32: return {CUBLAS_COMPUTE_32I, CUDA_R_32I};
        default: return {CUBLAS_COMPUTE_32F, CUDA_R_32F};
    }
}

cublasLtEpilogue_t epilogue(LtEpilogue epilogue) {
    switch (epilogue) {
        case LtEpilogue::bias: return CUBLASLT_EPILOGUE_BIAS;
        case LtEpilogue::relu: return CUBLASLT_EPILOGUE_RELU;
        case LtEpilogue::relu_bias: return CUBLASLT_EPILOGUE_RELU_BIAS;
        case LtEpilogue::gelu: return CUBLASLT_EPILOGUE_GELU;
        case LtEpilogue::gelu_bias: return CUBLASLT_EPILOGUE_GELU_BIAS;
        default: return CUBLASLT_EPILOGUE_DEFAULT;
    }
}

/// A scaling factor in the type that the computation wants it in.
struct Scalar {
    alignas(8) std::array<std::byte, 8> bytes{};
    Scalar(float value, LtCompute compute) {
        const auto put = [this](auto typed) { std::memcpy(bytes.data(), &typed, sizeof(typed)); };
        if (compute == LtCompute::f64) {
            put(static_cast<double>(value));
        } else if (compute == LtCompute::i32) {
            put(static_cast<std::int32_t>(value));
        } else {
            put(value);
        }
    }
};

/// Functions and the handle, as long as any call needs them.
struct Handle {
    Functions lt;
    std::string path;
    std::size_t version = 0;
    cublasLtHandle_t handle = nullptr;

    Handle() = default;
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;
    ~Handle() {
        if (handle != nullptr) (void)lt.destroy(handle);
    }
};

template <typename T>
class Owned {
public:
    explicit Owned(cublasStatus_t (*destroy)(T)) : destroy_(destroy) {}
    ~Owned() {
        if (value_ != nullptr) (void)destroy_(value_);
    }
    Owned(const Owned&) = delete;
    Owned& operator=(const Owned&) = delete;
    T* out() noexcept { return &value_; }
    [[nodiscard]] T get() const noexcept { return value_; }

private:
    cublasStatus_t (*destroy_)(T);
    T value_ = nullptr;
};

struct Algorithm {
    cublasLtMatmulAlgo_t algo{};
    std::size_t workspace_bytes = 0;
};

/// Algorithm bytes are valid for one version of the library alone.
struct StoredChoice {
    char magic[8] = {'c', 'u', 'b', 'l', 'a', 's', 'l', 't'};
    std::uint64_t version = 0;
    cublasLtMatmulAlgo_t algo{};
};
static_assert(std::is_trivially_copyable_v<StoredChoice> && sizeof(StoredChoice) == 80);

class Matmul final : public LibraryCall {
public:
    Matmul(std::shared_ptr<Handle> handle, const MatmulSpec& spec, const LtProblem& problem)
        : handle_(std::move(handle)),
          spec_(spec),
          problem_(problem),
          alpha_(problem.alpha, problem.compute),
          beta_(problem.beta, problem.compute),
          desc_(handle_->lt.desc_destroy),
          a_(handle_->lt.layout_destroy),
          b_(handle_->lt.layout_destroy),
          d_(handle_->lt.layout_destroy) {
        const Functions& lt = handle_->lt;
        const auto [compute, scale] = compute_types(problem.compute);
        lt.check(lt.desc_create(desc_.out(), compute, scale), "cublasLtMatmulDescCreate");
        set(CUBLASLT_MATMUL_DESC_TRANSA, std::int32_t{problem.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N});
        set(CUBLASLT_MATMUL_DESC_TRANSB, std::int32_t{problem.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N});
        set(CUBLASLT_MATMUL_DESC_EPILOGUE, std::uint32_t{epilogue(problem.epilogue)});
        if (spec.bias) {
            set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, std::int32_t{data_type(problem.bias_type)});
            set_bias(256);  // the search looks at the alignment; run() sets the address
        }
        create(a_, problem.a);
        create(b_, problem.b);
        create(d_, problem.d);
    }

    [[nodiscard]] std::vector<Algorithm> search(std::size_t workspace_limit_bytes, int count) const {
        const Functions& lt = handle_->lt;
        Owned<cublasLtMatmulPreference_t> preference(lt.preference_destroy);
        lt.check(lt.preference_create(preference.out()), "cublasLtMatmulPreferenceCreate");
        const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
            lt.check(lt.preference_set(preference.get(), attribute, &value, sizeof(value)), "cublasLtMatmulPreferenceSetAttribute");
        };
        prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{workspace_limit_bytes});
        // Parts of a sum that are added to the result as they come give another one each time.
        prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
               std::uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE});
        for (const auto attribute : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                                     CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
            prefer(attribute, std::uint32_t{16});
        }
        std::vector<cublasLtMatmulHeuristicResult_t> results(static_cast<std::size_t>(count));
        int found = 0;
        const cublasStatus_t status =
            lt.heuristic(handle_->handle, desc_.get(), a_.get(), b_.get(), d_.get(), d_.get(), preference.get(), count, results.data(), &found);
        if (status != CUBLAS_STATUS_SUCCESS) {
            base::log_debug(fmt::format("cuBLASLt takes no '{}': {}", to_string(spec_), lt.status_string(status)));
            return {};
        }
        std::vector<Algorithm> algorithms;
        for (int i = 0; i < found; ++i) {
            const auto& result = results[static_cast<std::size_t>(i)];
            if (result.state == CUBLAS_STATUS_SUCCESS) algorithms.push_back({result.algo, result.workspaceSize});
        }
        return algorithms;
    }

    /// The algorithm of a choice made earlier, if this library still has it.
    [[nodiscard]] std::optional<Algorithm> restore(const std::string& choice, std::size_t workspace_limit_bytes) const {
        StoredChoice stored;
        const StoredChoice expected{.version = handle_->version};
        if (choice.size() != sizeof(stored)) return {};
        std::memcpy(&stored, choice.data(), sizeof(stored));
        if (std::memcmp(stored.magic, expected.magic, sizeof(stored.magic)) != 0 || stored.version != expected.version) return {};
        cublasLtMatmulHeuristicResult_t result{};
        const cublasStatus_t status =
            handle_->lt.algo_check(handle_->handle, desc_.get(), a_.get(), b_.get(), d_.get(), d_.get(), &stored.algo, &result);
        if (status != CUBLAS_STATUS_SUCCESS || result.workspaceSize > workspace_limit_bytes) return {};
        if (attribute_of(stored.algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME) == CUBLASLT_REDUCTION_SCHEME_INPLACE)
            return {};  // of an earlier version
        return Algorithm{stored.algo, result.workspaceSize};
    }

    void choose(const Algorithm& algorithm) { algorithm_ = algorithm; }

    [[nodiscard]] std::size_t workspace_bytes() const override { return algorithm_.workspace_bytes; }

    void run(Stream& stream, std::span<const std::uint64_t> buffers, std::uint64_t workspace) override {
        const auto expected = static_cast<std::size_t>(3 + int{spec_.bias} + int{spec_.residual});
        if (buffers.size() != expected) {
            throw Error(ErrorCode::internal, ErrorCategory::runtime, "cuBLASLt: '" + to_string(spec_) + "' got another number of buffers",
                        {.expected = std::to_string(expected), .found = std::to_string(buffers.size()), .advice = {}});
        }
        void* const native = stream.native();
        const auto pointer = [](std::uint64_t address) { return reinterpret_cast<void*>(address); };
        if (spec_.bias) set_bias(buffers[3]);
        void* const d = pointer(buffers[2]);
        const Functions& lt = handle_->lt;
        lt.check(lt.matmul(handle_->handle, desc_.get(), alpha_.bytes.data(), pointer(buffers[1]), a_.get(), pointer(buffers[0]), b_.get(),
                           beta_.bytes.data(), spec_.residual ? pointer(buffers.back()) : d, d_.get(), d, d_.get(), &algorithm_.algo,
                           pointer(workspace), algorithm_.workspace_bytes, static_cast<cudaStream_t>(native)),
                 "cublasLtMatmul");
    }

    [[nodiscard]] std::string describe() const override {
        const auto attribute = [this](cublasLtMatmulAlgoConfigAttributes_t which) { return attribute_of(algorithm_.algo, which); };
        return fmt::format("cuBLASLt {} algorithm {} tile {} stages {} split-k {} reduction {}", handle_->version, attribute(CUBLASLT_ALGO_CONFIG_ID),
                           attribute(CUBLASLT_ALGO_CONFIG_TILE_ID), attribute(CUBLASLT_ALGO_CONFIG_STAGES_ID),
                           attribute(CUBLASLT_ALGO_CONFIG_SPLITK_NUM), attribute(CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME));
    }

    [[nodiscard]] std::string choice() const override {
        const StoredChoice stored{.version = handle_->version, .algo = algorithm_.algo};
        std::string bytes(sizeof(stored), '\0');
        std::memcpy(bytes.data(), &stored, sizeof(stored));
        return bytes;
    }

private:
    /// 0 where the library does not tell.
    [[nodiscard]] std::int32_t attribute_of(const cublasLtMatmulAlgo_t& algorithm, cublasLtMatmulAlgoConfigAttributes_t which) const {
        std::int32_t value = 0;
        std::size_t written = 0;
        (void)handle_->lt.algo_config(&algorithm, which, &value, sizeof(value), &written);
        return value;
    }

    template <typename T>
    void set(cublasLtMatmulDescAttributes_t attribute, T value) {
        const Functions& lt = handle_->lt;
        lt.check(lt.desc_set(desc_.get(), attribute, &value, sizeof(value)), "cublasLtMatmulDescSetAttribute");
    }
    void set_bias(std::uint64_t address) { set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, reinterpret_cast<const void*>(address)); }

    void create(Owned<cublasLtMatrixLayout_t>& layout, const LtMatrix& matrix) {
        const Functions& lt = handle_->lt;
        lt.check(lt.layout_create(layout.out(), data_type(matrix.type), static_cast<std::uint64_t>(matrix.rows),
                                  static_cast<std::uint64_t>(matrix.columns), matrix.leading),
                 "cublasLtMatrixLayoutCreate");
        if (problem_.batch == 1) return;
        const auto batch = static_cast<std::int32_t>(problem_.batch);
        const std::int64_t stride = matrix.batch_stride;
        lt.check(lt.layout_set(layout.get(), CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof(batch)), "cublasLtMatrixLayoutSetAttribute");
        lt.check(lt.layout_set(layout.get(), CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof(stride)),
                 "cublasLtMatrixLayoutSetAttribute");
    }

    std::shared_ptr<Handle> handle_;
    MatmulSpec spec_;
    LtProblem problem_;
    Scalar alpha_, beta_;
    Owned<cublasLtMatmulDesc_t> desc_;
    Owned<cublasLtMatrixLayout_t> a_, b_, d_;
    Algorithm algorithm_;
};

class OpenCublasLt final : public CublasLt {
public:
    OpenCublasLt(Device& device, std::shared_ptr<Handle> handle) : device_(device), handle_(std::move(handle)) {}

    [[nodiscard]] std::size_t version() const noexcept override { return handle_->version; }

    [[nodiscard]] std::unique_ptr<LibraryCall> make(const MatmulSpec& spec, const Tuning& tuning) override {
        const auto problem = lt_problem(spec);
        if (!problem || problem->batch > INT32_MAX) return nullptr;
        auto call = std::make_unique<Matmul>(handle_, spec, *problem);
        if (const auto restored = call->restore(tuning.choice, tuning.workspace_limit_bytes)) {
            call->choose(*restored);
            return call;
        }
        const auto algorithms = call->search(tuning.workspace_limit_bytes, std::max(tuning.candidates, 1));
        if (algorithms.empty()) return nullptr;
        call->choose(algorithms.front());
        if (tuning.measure && algorithms.size() > 1) choose_fastest(*call, spec, tuning, algorithms);
        return call;
    }

private:
    void choose_fastest(Matmul& call, const MatmulSpec& spec, const Tuning& tuning, const std::vector<Algorithm>& algorithms) {
        try {
            const auto best =
                fastest(device_, tuning, buffers(spec), static_cast<int>(algorithms.size()), [&](int i) -> std::optional<PreparedCandidate> {
                    call.choose(algorithms[static_cast<std::size_t>(i)]);
                    return PreparedCandidate{call.workspace_bytes(), [&call](Stream& stream, std::span<const std::uint64_t> addresses,
                                                                             std::uint64_t workspace) { call.run(stream, addresses, workspace); }};
                });
            call.choose(algorithms[static_cast<std::size_t>(best.value_or(0))]);
        } catch (const Error& error) {  // no room to measure: the library's own first choice stands
            if (error.code() != ErrorCode::resource_exhausted) throw;
            call.choose(algorithms.front());
        }
    }

    Device& device_;
    std::shared_ptr<Handle> handle_;
};

}  // namespace

std::shared_ptr<CublasLt> CublasLt::open(Device& device, std::string& reason) {
    const SharedLibrary& library = cublaslt_file();
    if (!library) {
        reason = library.reason();
        return nullptr;
    }
    auto handle = std::make_shared<Handle>();
    std::string missing;
    if (!handle->lt.load(library, missing)) {
        reason = fmt::format("cuBLASLt at '{}' has no {}", library.path(), missing);
        return nullptr;
    }
    handle->path = library.path();
    handle->version = handle->lt.get_version();
    if (const cublasStatus_t status = handle->lt.create(&handle->handle); status != CUBLAS_STATUS_SUCCESS) {
        handle->handle = nullptr;
        reason = fmt::format("cuBLASLt {} at '{}' does not start: {}", handle->version, handle->path, handle->lt.status_string(status));
        return nullptr;
    }
    return std::make_shared<OpenCublasLt>(device, std::move(handle));
}

}  // namespace ai_vmm::cuda
