// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "ai_vmm/constraints.hpp"
#include "ai_vmm/device.hpp"
#include "ai_vmm/model.hpp"
#include "ai_vmm/tensor.hpp"

namespace ai_vmm {
namespace {

struct ElementTypeRow {
    ElementType type;
    std::string_view name;
    std::size_t bits;
};

constexpr std::array kElementTypes{
    ElementTypeRow{ElementType::undefined, "undefined", 0},
    ElementTypeRow{ElementType::boolean, "boolean", 8},
    ElementTypeRow{ElementType::bf16, "bf16", 16},
    ElementTypeRow{ElementType::f16, "f16", 16},
    ElementTypeRow{ElementType::f32, "f32", 32},
    ElementTypeRow{ElementType::f64, "f64", 64},
    ElementTypeRow{ElementType::f8e4m3, "f8e4m3", 8},
    ElementTypeRow{ElementType::f8e4m3fnuz, "f8e4m3fnuz", 8},
    ElementTypeRow{ElementType::f8e5m2, "f8e5m2", 8},
    ElementTypeRow{ElementType::f8e5m2fnuz, "f8e5m2fnuz", 8},
    ElementTypeRow{ElementType::f8e8m0, "f8e8m0", 8},
    ElementTypeRow{ElementType::f4e2m1, "f4e2m1", 4},
    ElementTypeRow{ElementType::nf4, "nf4", 4},
    ElementTypeRow{ElementType::i2, "i2", 2},
    ElementTypeRow{ElementType::i4, "i4", 4},
    ElementTypeRow{ElementType::i8, "i8", 8},
    ElementTypeRow{ElementType::i16, "i16", 16},
    ElementTypeRow{ElementType::i32, "i32", 32},
    ElementTypeRow{ElementType::i64, "i64", 64},
    ElementTypeRow{ElementType::u1, "u1", 1},
    ElementTypeRow{ElementType::u2, "u2", 2},
    ElementTypeRow{ElementType::u4, "u4", 4},
    ElementTypeRow{ElementType::u8, "u8", 8},
    ElementTypeRow{ElementType::u16, "u16", 16},
    ElementTypeRow{ElementType::u32, "u32", 32},
    ElementTypeRow{ElementType::u64, "u64", 64},
    ElementTypeRow{ElementType::complex64, "complex64", 64},
    ElementTypeRow{ElementType::complex128, "complex128", 128},
    ElementTypeRow{ElementType::string, "string", 8 * sizeof(std::string)},
};

template <typename Enum, std::size_t N>
using Names = std::array<std::pair<Enum, std::string_view>, N>;

template <typename Enum, std::size_t N>
std::string_view name_of(const Names<Enum, N>& names, Enum value) noexcept {
    const auto found = std::ranges::find(names, value, &std::pair<Enum, std::string_view>::first);
    return found == names.end() ? std::string_view{"unknown"} : found->second;
}

template <typename Enum, std::size_t N>
std::optional<Enum> value_of(const Names<Enum, N>& names, std::string_view name) noexcept {
    const auto found = std::ranges::find(names, name, &std::pair<Enum, std::string_view>::second);
    if (found == names.end()) return std::nullopt;
    return found->first;
}

constexpr Names<ModelFormat, 11> kFormats{{
    {ModelFormat::unknown, "unknown"},
    {ModelFormat::onnx, "onnx"},
    {ModelFormat::openvino_ir, "openvino_ir"},
    {ModelFormat::tensorflow_saved_model, "tensorflow_saved_model"},
    {ModelFormat::tensorflow_frozen, "tensorflow_frozen"},
    {ModelFormat::tflite, "tflite"},
    {ModelFormat::paddle, "paddle"},
    {ModelFormat::torchscript, "torchscript"},
    {ModelFormat::torch_export, "torch_export"},
    {ModelFormat::gguf, "gguf"},
    {ModelFormat::huggingface, "huggingface"},
}};

constexpr Names<ModelCategory, 7> kCategories{{
    {ModelCategory::unknown, "UNKNOWN"},
    {ModelCategory::llm_transformer, "LLM_TRANSFORMER"},
    {ModelCategory::vision_cnn, "VISION_CNN"},
    {ModelCategory::vision_transformer, "VISION_TRANSFORMER"},
    {ModelCategory::speech_rnn, "SPEECH_RNN"},
    {ModelCategory::recommendation_system, "RECOMMENDATION_SYSTEM"},
    {ModelCategory::scientific_ml, "SCIENTIFIC_ML"},
}};

constexpr Names<DeviceKind, 5> kKinds{{
    {DeviceKind::cpu, "CPU"},
    {DeviceKind::integrated_gpu, "INTEGRATED_GPU"},
    {DeviceKind::discrete_gpu, "DISCRETE_GPU"},
    {DeviceKind::npu, "NPU"},
    {DeviceKind::other, "OTHER"},
}};

constexpr Names<Goal, 3> kGoals{{
    {Goal::latency, "latency"},
    {Goal::throughput, "throughput"},
    {Goal::efficiency, "efficiency"},
}};

constexpr Names<Precision, 4> kPrecisions{{
    {Precision::automatic, "automatic"},
    {Precision::f32, "f32"},
    {Precision::bf16, "bf16"},
    {Precision::f16, "f16"},
}};

}  // namespace

std::string_view to_string(ElementType type) noexcept {
    const auto found = std::ranges::find(kElementTypes, type, &ElementTypeRow::type);
    return found == kElementTypes.end() ? std::string_view{"undefined"} : found->name;
}

std::optional<ElementType> element_type_from_string(std::string_view name) noexcept {
    const auto found = std::ranges::find(kElementTypes, name, &ElementTypeRow::name);
    if (found == kElementTypes.end()) return std::nullopt;
    return found->type;
}

std::size_t bit_width(ElementType type) noexcept {
    const auto found = std::ranges::find(kElementTypes, type, &ElementTypeRow::type);
    return found == kElementTypes.end() ? 0 : found->bits;
}

std::string_view to_string(ModelFormat format) noexcept { return name_of(kFormats, format); }
std::string_view to_string(ModelCategory category) noexcept { return name_of(kCategories, category); }
std::string_view to_string(DeviceKind kind) noexcept { return name_of(kKinds, kind); }
std::string_view to_string(Goal goal) noexcept { return name_of(kGoals, goal); }
std::string_view to_string(Precision precision) noexcept { return name_of(kPrecisions, precision); }
std::optional<Goal> goal_from_string(std::string_view name) noexcept { return value_of(kGoals, name); }
std::optional<Precision> precision_from_string(std::string_view name) noexcept {
    if (name == "auto") return Precision::automatic;
    return value_of(kPrecisions, name);
}

bool TensorInfo::is_dynamic() const noexcept {
    return !rank_known || std::ranges::any_of(shape, [](std::int64_t size) { return size < 0; });
}

}  // namespace ai_vmm
