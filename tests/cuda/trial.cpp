// SPDX-License-Identifier: Apache-2.0
#include "cuda/trial.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <openvino/runtime/core.hpp>

#include "ai_vmm/error.hpp"
#include "cuda/host_device.hpp"
#include "gpu.hpp"
#include "lower/lower.hpp"
#include "program/program.hpp"

namespace ai_vmm::cuda::test {
namespace {

std::shared_ptr<HostDevice> host_device() {
    static const auto shared = std::make_shared<HostDevice>();
    return shared;
}

template <typename Visit>
auto visit(const ov::element::Type& type, Visit&& with) {
    using ov::element::Type_t;
    switch (static_cast<Type_t>(type)) {
        case Type_t::f32: return with(float{});
        case Type_t::f64: return with(double{});
        case Type_t::f16: return with(ov::float16{});
        case Type_t::bf16: return with(ov::bfloat16{});
        case Type_t::f8e4m3: return with(ov::float8_e4m3{});
        case Type_t::f8e5m2: return with(ov::float8_e5m2{});
        case Type_t::i64: return with(std::int64_t{});
        case Type_t::i32: return with(std::int32_t{});
        case Type_t::i16: return with(std::int16_t{});
        case Type_t::i8: return with(std::int8_t{});
        case Type_t::u64: return with(std::uint64_t{});
        case Type_t::u32: return with(std::uint32_t{});
        case Type_t::u16: return with(std::uint16_t{});
        case Type_t::u8:
        case Type_t::boolean: return with(std::uint8_t{});
        default: OPENVINO_THROW("no tensors of ", type, " here");
    }
}

bool real(const ov::element::Type& type) { return type.is_real(); }

std::vector<double> numbers(const ov::Tensor& from) {
    return visit(from.get_element_type(), [&](auto sample) {
        using T = decltype(sample);
        const auto* data = static_cast<const T*>(from.data());
        std::vector<double> all(from.get_size());
        for (std::size_t i = 0; i < all.size(); ++i) {
            if constexpr (std::is_arithmetic_v<T>) {
                all[i] = static_cast<double>(data[i]);
            } else {
                all[i] = static_cast<double>(static_cast<float>(data[i]));
            }
        }
        return all;
    });
}

double precision(const ov::element::Type& type) {
    if (type == ov::element::f16) return 2e-3;
    if (type == ov::element::bf16) return 1.6e-2;
    if (type == ov::element::f8e4m3) return 0.13;
    if (type == ov::element::f8e5m2) return 0.26;
    return 0;
}

void compare_tensors(const std::string& what, const ov::Tensor& got, const ov::Tensor& expected, double tolerance) {
    ASSERT_EQ(got.get_shape(), expected.get_shape()) << what;
    ASSERT_EQ(got.get_element_type(), expected.get_element_type()) << what;
    const bool exact = !real(got.get_element_type());
    if (exact && std::memcmp(got.data(), expected.data(), got.get_byte_size()) == 0) return;
    const auto a = numbers(got), b = numbers(expected);
    const double allowed = exact ? 0 : std::max(tolerance, precision(got.get_element_type()));
    std::size_t wrong = 0;
    std::string first;
    for (std::size_t i = 0; i < a.size(); ++i) {
        if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) continue;
        if (std::abs(a[i] - b[i]) <= allowed * (1 + std::abs(b[i]))) continue;
        if (wrong++ < 5) first += fmt::format(" [{}] {} not {};", i, a[i], b[i]);
    }
    // Integers past 2^53 may differ in bytes alone.
    if (wrong == 0 && exact) ADD_FAILURE() << what << ": bytes differ";
    if (wrong != 0) ADD_FAILURE() << what << ": " << wrong << " of " << a.size() << " elements differ:" << first;
}

ov::TensorVector by_openvino(const std::shared_ptr<ov::Model>& model, const ov::TensorVector& inputs) {
    ov::TensorVector outputs;
    for (const auto& output : model->outputs()) {
        outputs.emplace_back(output.get_element_type(), output.get_partial_shape().is_static() ? output.get_shape() : ov::Shape{0});
    }
    try {
        if (model->evaluate(outputs, inputs)) return outputs;
    } catch (const ov::Exception&) {  // the plugin may have it
    }
    static ov::Core core;
    // In f32 between a quantised model's own roundings: 8-bit kernels saturate on some processors.
    auto compiled = core.compile_model(model, "CPU", ov::hint::inference_precision(ov::element::f32),
                                       std::pair<std::string, ov::Any>{"LP_TRANSFORMS_MODE", false});
    auto request = compiled.create_infer_request();
    for (std::size_t k = 0; k < inputs.size(); ++k) request.set_input_tensor(k, inputs[k]);
    request.infer();
    outputs.clear();
    for (std::size_t k = 0; k < model->outputs().size(); ++k) {
        const ov::Tensor from = request.get_output_tensor(k);
        ov::Tensor copy(from.get_element_type(), from.get_shape());
        from.copy_to(copy);
        outputs.push_back(copy);
    }
    return outputs;
}

}  // namespace

const std::vector<ov::element::Type>& float_types() {
    static const std::vector<ov::element::Type> all{ov::element::f32, ov::element::f16, ov::element::bf16, ov::element::f64};
    return all;
}

const std::vector<ov::element::Type>& integer_types() {
    static const std::vector<ov::element::Type> all{ov::element::i8, ov::element::i16, ov::element::i32, ov::element::i64,
                                                    ov::element::u8, ov::element::u16, ov::element::u32, ov::element::u64};
    return all;
}

std::vector<ov::element::Type> number_types() {
    auto all = float_types();
    all.insert(all.end(), integer_types().begin(), integer_types().end());
    return all;
}

ov::Tensor tensor(const ov::element::Type& type, const ov::Shape& shape, const std::vector<double>& values) {
    ov::Tensor made(type, shape);
    EXPECT_EQ(made.get_size(), values.size());
    visit(type, [&](auto sample) {
        using T = decltype(sample);
        for (std::size_t i = 0; i < values.size(); ++i) {
            if constexpr (std::is_arithmetic_v<T>) {
                static_cast<T*>(made.data())[i] = static_cast<T>(values[i]);
            } else {
                static_cast<T*>(made.data())[i] = T(static_cast<float>(values[i]));
            }
        }
        return 0;
    });
    return made;
}

ov::Tensor spread(const ov::element::Type& type, const ov::Shape& shape, double low, double high, unsigned seed) {
    std::vector<double> values(ov::shape_size(shape));
    std::uint64_t state = seed * 7919U + 1;
    for (double& value : values) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        const double unit = static_cast<double>(state >> 40) / static_cast<double>(1 << 24);
        if (real(type)) {
            value = low + unit * (high - low);
        } else {
            const double least = type.is_signed() ? std::ceil(low) : std::max(0.0, std::ceil(low));
            value = type == ov::element::boolean ? (unit < 0.5 ? 0 : 1) : least + std::floor(unit * (std::floor(high) - least + 1));
        }
    }
    return tensor(type, shape, values);
}

ov::Output<ov::Node> Trial::in(const ov::element::Type& type, const ov::Shape& shape, double low, double high) {
    parameters_.push_back(std::make_shared<ov::op::v0::Parameter>(type, shape));
    inputs_.push_back(spread(type, shape, low, high, static_cast<unsigned>(inputs_.size())));
    return parameters_.back();
}

ov::Output<ov::Node> Trial::given(const ov::element::Type& type, const ov::Shape& shape, const std::vector<double>& values) {
    parameters_.push_back(std::make_shared<ov::op::v0::Parameter>(type, shape));
    inputs_.push_back(tensor(type, shape, values));
    return parameters_.back();
}

ov::Output<ov::Node> Trial::constant(const ov::element::Type& type, const ov::Shape& shape, const std::vector<double>& values) {
    return std::make_shared<ov::op::v0::Constant>(type, shape, values);
}

ov::Output<ov::Node> Trial::ints(const std::vector<std::int64_t>& values) {
    return std::make_shared<ov::op::v0::Constant>(ov::element::i64, ov::Shape{values.size()}, values);
}

ov::Output<ov::Node> Trial::scalar(std::int64_t value) {
    return std::make_shared<ov::op::v0::Constant>(ov::element::i64, ov::Shape{}, std::vector<std::int64_t>{value});
}

std::shared_ptr<ov::Model> Trial::model(const ov::OutputVector& results) const {
    ov::ResultVector made;
    for (const auto& result : results) made.push_back(std::make_shared<ov::op::v0::Result>(result));
    return std::make_shared<ov::Model>(made, parameters_);
}

std::vector<ov::Tensor> Trial::run(const ov::OutputVector& results) {
    std::vector<Dims> shapes;
    std::vector<const void*> inputs;
    for (const ov::Tensor& input : inputs_) {
        shapes.emplace_back(input.get_shape().begin(), input.get_shape().end());
        inputs.push_back(input.data());
    }
    const auto fixed = with_shapes(*model(results), shapes);
    const std::shared_ptr<Device> device = device_ ? device_ : host_device();
    const auto program = std::make_shared<Program>(device, lower(fixed), std::make_shared<WeightStore>(device));
    std::vector<ov::Tensor> outputs;
    std::vector<void*> pointers;
    for (const auto& output : fixed->outputs()) outputs.emplace_back(output.get_element_type(), output.get_shape());
    for (ov::Tensor& output : outputs) pointers.push_back(output.data());
    Execution execution(program);
    execution.run(inputs, pointers);
    return outputs;
}

void Trial::compare(const ov::OutputVector& results, double tolerance) {
    SCOPED_TRACE(what_);
    std::vector<ov::Tensor> expected;
    try {
        expected = by_openvino(model(results)->clone(), inputs_);
    } catch (const std::exception& error) {
        ADD_FAILURE() << what_ << ": OpenVINO: " << error.what();
        return;
    }
    expect(results, expected, tolerance);
}

void Trial::expect(const ov::OutputVector& results, const std::vector<ov::Tensor>& expected, double tolerance) {
    try {
        const auto outputs = run(results);
        ASSERT_EQ(outputs.size(), expected.size());
        for (std::size_t k = 0; k < outputs.size(); ++k) compare_tensors(fmt::format("{}, result {}", what_, k), outputs[k], expected[k], tolerance);
    } catch (const std::exception& error) {
        ADD_FAILURE() << what_ << ": " << error.what();
    }
    if (device_) return;
    host_device()->check();
    EXPECT_EQ(host_device()->problems(), std::vector<std::string>{}) << what_;
}

Schedule compare_in_f16(const std::shared_ptr<Device>& device, const Output& x, const Output& y, double tolerance) {
    const auto model =
        std::make_shared<ov::Model>(ov::OutputVector{y}, ov::ParameterVector{ov::as_type_ptr<ov::op::v0::Parameter>(x.get_node_shared_ptr())});
    const auto program =
        std::make_shared<const Program>(device, lower(with_shapes(*model, {}), {.float_type = Type::f16}), std::make_shared<WeightStore>(device));
    Execution execution(program);
    const ov::element::Type& type = x.get_element_type();
    const ov::Tensor input = type.is_real() ? spread(type, x.get_shape(), -1, 1, 7) : spread(type, x.get_shape(), 0, 255, 7);
    ov::Tensor out(ov::element::f32, y.get_shape());
    const void* in_pointer = input.data();
    void* out_pointer = out.data();
    execution.run({&in_pointer, 1}, {&out_pointer, 1});
    compare_tensors(print(program->schedule()), out, by_openvino(model, {input}).front(), tolerance);
    return program->schedule();
}

Output with_bias(const Output& y, std::size_t channels) {
    return make<ov::op::v0::Relu>(make<ov::op::v1::Add>(y, make<ov::op::v0::Constant>(spread(ov::element::f32, {1, channels, 1, 1}, -0.5, 0.5, 3))));
}

std::shared_ptr<Device> first_gpu(std::string& missing) {
    try {
        return open_gpu(0);
    } catch (const Error& error) {
        missing = std::string("no GPU: ") + error.what();
        return nullptr;
    }
}

}  // namespace ai_vmm::cuda::test
