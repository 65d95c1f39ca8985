// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <map>
#include <openvino/core/version.hpp>
#include <openvino/runtime/compiled_model.hpp>
#include <openvino/runtime/core.hpp>
#include <openvino/runtime/infer_request.hpp>
#include <openvino/runtime/properties.hpp>
#include <openvino/runtime/tensor.hpp>

#include "native/adapting.hpp"

namespace ai_vmm::cli::native {
namespace {

constexpr std::string_view kName = "OpenVINO";

std::span<const TypeRow<ov::element::Type>> types() {
    static const TypeRow<ov::element::Type> table[] = {
        {ov::element::boolean, ElementType::boolean}, {ov::element::bf16, ElementType::bf16}, {ov::element::f16, ElementType::f16},
        {ov::element::f32, ElementType::f32},         {ov::element::f64, ElementType::f64},   {ov::element::i8, ElementType::i8},
        {ov::element::i16, ElementType::i16},         {ov::element::i32, ElementType::i32},   {ov::element::i64, ElementType::i64},
        {ov::element::u8, ElementType::u8},           {ov::element::u16, ElementType::u16},   {ov::element::u32, ElementType::u32},
        {ov::element::u64, ElementType::u64}};
    return table;
}

ElementType type_of(const ov::element::Type& type) { return to_ours(types(), type, "OpenVINO type " + type.get_type_name()); }

ov::element::Type type_of(ElementType type) { return to_theirs(types(), type, kName); }

ov::Shape to_ov(const Shape& shape) { return {shape.begin(), shape.end()}; }

template <typename Ports>
std::vector<TensorInfo> describe(const Ports& ports) {
    std::vector<TensorInfo> infos;
    for (const auto& port : ports) {
        TensorInfo info{.name = port.get_names().empty() ? std::string() : port.get_any_name(), .type = type_of(port.get_element_type())};
        const ov::PartialShape& shape = port.get_partial_shape();
        info.rank_known = shape.rank().is_static();
        if (info.rank_known) {
            for (const ov::Dimension& size : shape) info.shape.push_back(size.is_static() ? size.get_length() : -1);
        }
        infos.push_back(std::move(info));
    }
    return infos;
}

class OpenvinoCaller final : public Caller {
public:
    OpenvinoCaller(ov::CompiledModel& model, std::span<const Tensor> inputs)
        : request_(model.create_infer_request()), inputs_(inputs.begin(), inputs.end()) {
        check_count(inputs.size(), model.inputs().size(), kName);
        for (std::size_t i = 0; i < inputs_.size(); ++i) {
            request_.set_input_tensor(i, ov::Tensor(type_of(inputs_[i].type()), to_ov(inputs_[i].shape()), inputs_[i].data()));
        }
        count_ = model.outputs().size();
    }
    void run() override {
        translated(kName, "run", [&] { request_.infer(); });
    }
    std::vector<Tensor> outputs() override {
        std::vector<Tensor> tensors;
        for (std::size_t i = 0; i < count_; ++i) {
            const ov::Tensor tensor = request_.get_output_tensor(i);
            const ov::Shape shape = tensor.get_shape();
            // The request owns the memory until the next run.
            tensors.push_back(Tensor::borrow(type_of(tensor.get_element_type()), Shape(shape.begin(), shape.end()),
                                             const_cast<void*>(static_cast<const void*>(tensor.data()))));
        }
        return tensors;
    }

private:
    ov::InferRequest request_;
    std::vector<Tensor> inputs_;
    std::size_t count_ = 0;
};

class OpenvinoEngine final : public Engine {
public:
    OpenvinoEngine(const std::filesystem::path& path, const Settings& settings) {
        translated(kName, "load the model", [&] {
            std::shared_ptr<ov::Model> model = core_.read_model(path.string());
            std::map<ov::Output<ov::Node>, ov::PartialShape> shapes;
            for (const auto& input : model->inputs()) {
                for (const auto& [name, shape] : settings.input_shapes) {
                    if (input.get_partial_shape().is_dynamic() && input.get_names().contains(name)) shapes[input] = ov::PartialShape(to_ov(shape));
                }
            }
            if (!shapes.empty()) model->reshape(shapes);
            ov::AnyMap config{ov::hint::inference_precision(settings.precision == "f32"    ? ov::element::f32
                                                            : settings.precision == "bf16" ? ov::element::bf16
                                                                                           : ov::element::f16),
                              ov::hint::performance_mode(settings.aim == Aim::throughput ? ov::hint::PerformanceMode::THROUGHPUT
                                                                                         : ov::hint::PerformanceMode::LATENCY)};
            text_ = fmt::format("PERFORMANCE_HINT={}, INFERENCE_PRECISION_HINT={}", settings.aim == Aim::throughput ? "THROUGHPUT" : "LATENCY",
                                settings.precision);
            if (settings.streams > 0) {
                config[ov::num_streams.name()] = ov::streams::Num(settings.streams);
                text_ += fmt::format(", NUM_STREAMS={}", settings.streams);
            }
            if (settings.threads > 0) {
                const int threads = settings.threads * std::max(settings.streams, 1);
                config[ov::inference_num_threads.name()] = threads;
                text_ += fmt::format(", INFERENCE_NUM_THREADS={}", threads);
            }
            if (settings.aim == Aim::as_given) {  // what backends/openvino sets besides
                config.insert(ov::hint::dynamic_quantization_group_size(0));
                config.insert(ov::hint::enable_hyper_threading(true));
                config.insert(ov::hint::enable_cpu_pinning(false));
            }
            compiled_ = core_.compile_model(model, "CPU", config);
        });
    }
    std::string version() const override { return ov::get_openvino_version().buildNumber; }
    std::string device() const override { return "CPU"; }
    std::string settings() const override { return text_; }
    std::vector<TensorInfo> inputs() const override { return describe(compiled_.inputs()); }
    std::vector<TensorInfo> outputs() const override { return describe(compiled_.outputs()); }
    int preferred_callers() const override {
        return translated(kName, "tell its number of requests",
                          [&] { return static_cast<int>(compiled_.get_property(ov::optimal_number_of_infer_requests)); });
    }
    std::unique_ptr<Caller> make_caller(std::span<const Tensor> inputs) override {
        return translated(kName, "make a request", [&] { return std::make_unique<OpenvinoCaller>(compiled_, inputs); });
    }

private:
    ov::Core core_;
    ov::CompiledModel compiled_;
    std::string text_;
};

}  // namespace
}  // namespace ai_vmm::cli::native

extern "C" __attribute__((visibility("default"))) ai_vmm::cli::native::Engine* vmm_native_load(const std::filesystem::path& model,
                                                                                               const ai_vmm::cli::native::Settings& settings) {
    return new ai_vmm::cli::native::OpenvinoEngine(model, settings);
}
