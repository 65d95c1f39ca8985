// SPDX-License-Identifier: Apache-2.0
#define ORT_API_MANUAL_INIT
#include <fmt/format.h>
#include <onnxruntime_cxx_api.h>

#include <fstream>
#include <thread>

#include "native/adapting.hpp"

namespace ai_vmm::cli::native {
namespace {

constexpr std::string_view kName = "ONNX Runtime";

constexpr TypeRow<ONNXTensorElementDataType> kTypes[] = {
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, ElementType::f32},    {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, ElementType::u8},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8, ElementType::i8},      {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16, ElementType::u16},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16, ElementType::i16},    {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, ElementType::i32},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, ElementType::i64},    {ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL, ElementType::boolean},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, ElementType::f16},  {ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE, ElementType::f64},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32, ElementType::u32},   {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64, ElementType::u64},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16, ElementType::bf16}};

ElementType type_of(ONNXTensorElementDataType type) {
    return to_ours<ONNXTensorElementDataType>(kTypes, type, fmt::format("ONNX type {}", static_cast<int>(type)));
}

ONNXTensorElementDataType type_of(ElementType type) { return to_theirs<ONNXTensorElementDataType>(kTypes, type, kName); }

/// The engine's environment; its table of functions is set before anything else of it is touched.
Ort::Env& environment() {
    static Ort::Env* env = [] {
        Ort::InitApi(OrtGetApiBase()->GetApi(ORT_API_VERSION));
        return new Ort::Env(ORT_LOGGING_LEVEL_ERROR, "vmm bench");
    }();
    return *env;
}

Ort::Value borrow(const Ort::MemoryInfo& memory, const Tensor& tensor) {
    // The engine only reads inputs; outputs are the caller's own.
    return Ort::Value::CreateTensor(memory, const_cast<void*>(tensor.data()), tensor.size_bytes(), tensor.shape().data(), tensor.shape().size(),
                                    type_of(tensor.type()));
}

class OrtCaller final : public Caller {
public:
    OrtCaller(Ort::Session& session, const std::vector<TensorInfo>& inputs, const std::vector<TensorInfo>& outputs, std::span<const Tensor> tensors)
        : session_(session), tensors_(tensors.begin(), tensors.end()) {
        check_count(tensors_.size(), inputs.size(), kName);
        for (std::size_t i = 0; i < inputs.size(); ++i) {
            input_names_.push_back(inputs[i].name.c_str());
            inputs_.push_back(borrow(memory_, tensors_[i]));
        }
        for (const TensorInfo& info : outputs) output_names_.push_back(info.name.c_str());
        // The first run tells the shapes; the following ones write into the same memory.
        const auto first =
            session_.Run(Ort::RunOptions{nullptr}, input_names_.data(), inputs_.data(), inputs_.size(), output_names_.data(), output_names_.size());
        for (const Ort::Value& value : first) {
            const auto info = value.GetTensorTypeAndShapeInfo();
            results_.emplace_back(type_of(info.GetElementType()), info.GetShape());
            outputs_.push_back(borrow(memory_, results_.back()));
        }
    }
    void run() override {
        translated(kName, "run", [&] {
            session_.Run(run_options_, input_names_.data(), inputs_.data(), inputs_.size(), output_names_.data(), outputs_.data(), outputs_.size());
        });
    }
    std::vector<Tensor> outputs() override { return results_; }

private:
    Ort::Session& session_;
    Ort::MemoryInfo memory_ = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    Ort::RunOptions run_options_;
    std::vector<Tensor> tensors_;
    std::vector<const char*> input_names_;
    std::vector<const char*> output_names_;
    std::vector<Ort::Value> inputs_;
    std::vector<Tensor> results_;
    std::vector<Ort::Value> outputs_;
};

class OrtEngine final : public Engine {
public:
    OrtEngine(const std::filesystem::path& path, const Settings& settings) {
        refuse_other_formats(path);
        translated(kName, "load the model", [&] {
            Ort::Env& env = environment();
            Ort::SessionOptions options;
            options.SetGraphOptimizationLevel(GraphOptimizationLevel::ORT_ENABLE_ALL);
            options.SetExecutionMode(ExecutionMode::ORT_SEQUENTIAL);
            text_ = "ORT_ENABLE_ALL, ORT_SEQUENTIAL";
            // One pool over all cores, the engine's default, serves latency; callers side by side with one thread each serve throughput.
            int threads = settings.threads;
            if (settings.aim == Aim::throughput && threads == 0) threads = 1;
            if (threads > 0) options.SetIntraOpNumThreads(threads);
            text_ += threads > 0 ? fmt::format(", intra_op_num_threads={}", threads) : ", intra_op_num_threads=all cores";
            callers_ = settings.aim == Aim::throughput ? static_cast<int>(std::max(1U, std::thread::hardware_concurrency())) : 1;
            session_ = std::make_unique<Ort::Session>(env, path.c_str(), options);
            Ort::AllocatorWithDefaultOptions allocator;
            for (std::size_t i = 0; i < session_->GetInputCount(); ++i)
                inputs_.push_back(describe(session_->GetInputNameAllocated(i, allocator).get(), session_->GetInputTypeInfo(i)));
            for (std::size_t i = 0; i < session_->GetOutputCount(); ++i)
                outputs_.push_back(describe(session_->GetOutputNameAllocated(i, allocator).get(), session_->GetOutputTypeInfo(i)));
        });
    }
    std::string version() const override { return OrtGetApiBase()->GetVersionString(); }
    std::string device() const override { return "CPU"; }
    std::string settings() const override { return text_; }
    std::vector<TensorInfo> inputs() const override { return inputs_; }
    std::vector<TensorInfo> outputs() const override { return outputs_; }
    int preferred_callers() const override { return callers_; }
    std::unique_ptr<Caller> make_caller(std::span<const Tensor> inputs) override {
        return translated(kName, "run", [&] { return std::make_unique<OrtCaller>(*session_, inputs_, outputs_, inputs); });
    }

private:
    /// Says so before the engine's parser gives a riddle.
    static void refuse_other_formats(const std::filesystem::path& path) {
        std::ifstream file(path, std::ios::binary);
        std::string start(8, '\0');
        file.read(start.data(), 8);
        if (std::filesystem::is_directory(path) || start.substr(4) == "TFL3" || start[0] == '<' || start.starts_with("GGUF") ||
            start.starts_with("PK")) {
            throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, "ONNX Runtime reads only ONNX files",
                        {.expected = "an ONNX file", .found = path.filename().string(), .advice = "compare with --against openvino"});
        }
    }
    static TensorInfo describe(const char* name, const Ort::TypeInfo& type) {
        if (type.GetONNXType() != ONNX_TYPE_TENSOR)
            throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, fmt::format("'{}' is no tensor", name));
        const auto info = type.GetTensorTypeAndShapeInfo();
        return {.name = name, .type = type_of(info.GetElementType()), .shape = info.GetShape()};
    }

    std::unique_ptr<Ort::Session> session_;
    std::vector<TensorInfo> inputs_;
    std::vector<TensorInfo> outputs_;
    std::string text_;
    int callers_ = 1;
};

}  // namespace
}  // namespace ai_vmm::cli::native

extern "C" __attribute__((visibility("default"))) ai_vmm::cli::native::Engine* vmm_native_load(const std::filesystem::path& model,
                                                                                               const ai_vmm::cli::native::Settings& settings) {
    return new ai_vmm::cli::native::OrtEngine(model, settings);
}
