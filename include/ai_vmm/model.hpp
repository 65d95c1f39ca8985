// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ai_vmm/tensor.hpp"

namespace ai_vmm {

/// File formats that deploy() reads, recognised by content and never by file name.
enum class ModelFormat : std::uint8_t {
    unknown,
    onnx,
    openvino_ir,
    tensorflow_saved_model,
    tensorflow_frozen,
    tflite,
    paddle,
    torchscript,
    torch_export,
    gguf,
    huggingface,
};
[[nodiscard]] AI_VMM_API std::string_view to_string(ModelFormat format) noexcept;

/// What kind of network a model is. SPEECH_RNN stands for speech and audio networks, recurrent or not.
enum class ModelCategory : std::uint8_t {
    unknown,
    llm_transformer,
    vision_cnn,
    vision_transformer,
    speech_rnn,
    recommendation_system,
    scientific_ml,
};
/// "LLM_TRANSFORMER", "VISION_CNN", …, "UNKNOWN".
[[nodiscard]] AI_VMM_API std::string_view to_string(ModelCategory category) noexcept;

/// One input or output of a model, under the name that the file gives it.
struct TensorInfo {
    std::string name;
    ElementType type = ElementType::undefined;
    Shape shape;             ///< -1: any size; meaningless when !rank_known
    bool rank_known = true;  ///< false: any rank
    bool optional = false;   ///< an input that has a default and may be left out

    [[nodiscard]] AI_VMM_API bool is_dynamic() const noexcept;
    bool operator==(const TensorInfo&) const = default;
};

/// Cost of one node (operation) of the graph at the shapes in ModelProfile::assumed_shapes.
struct NodeProfile {
    std::string name;
    std::string type;             ///< operation name, e.g. "Convolution"
    std::string precision;        ///< element type of the first output
    std::int64_t flops = 0;       ///< floating-point operations; a multiply-add counts as two
    std::int64_t bytes_read = 0;  ///< activations and weights read
    std::int64_t bytes_written = 0;
    std::int64_t parameters = 0;  ///< constant elements used
    std::int64_t parameter_bytes = 0;
};

/// What a model is: the analyser's result.
struct ModelProfile {
    std::string name;
    ModelFormat format = ModelFormat::unknown;
    std::int64_t file_size_bytes = 0;
    ModelCategory category = ModelCategory::unknown;
    double category_confidence = 0;     ///< 0 to 1
    std::vector<std::string> evidence;  ///< why that category, one sentence each
    std::vector<TensorInfo> inputs;     ///< in the file's order, under the file's names
    std::vector<TensorInfo> outputs;
    std::vector<std::string> dynamic_dimensions;                ///< "input_ids[0]", …
    std::vector<std::pair<std::string, Shape>> assumed_shapes;  ///< what dynamic inputs were costed at
    /// Per integer input of one element: the constants that the model compares it with, such as the sample rates it knows.
    std::vector<std::pair<std::string, std::vector<std::int64_t>>> compared_values;
    std::vector<std::string> shape_deciding_inputs;  ///< whose values decide shapes, counts or positions; generated values are never put there
    /// Of the hidden states of a model that looks up sequences of tokens; 0 for other models. An output so wide holds features, not scores.
    std::int64_t hidden_width = 0;
    std::string precision;                  ///< dominant type of the weights: "f32", "f16", "i8", …
    bool quantized = false;                 ///< holds quantised weights or quantise/dequantise pairs
    std::vector<std::string> quantization;  ///< what is quantised: "int8 weights in 52 convolutions", …
    bool stateful = false;
    std::int64_t flops = 0;  ///< totals over `nodes`
    std::int64_t parameters = 0;
    std::int64_t parameter_bytes = 0;
    std::int64_t activation_bytes = 0;  ///< largest sum of live intermediate tensors, bytes
    std::int64_t bytes_moved = 0;       ///< reads and writes of all nodes
    std::vector<NodeProfile> nodes;     ///< in execution order; empty if only an engine's own reader takes the file
    std::vector<std::string> notes;     ///< e.g. which reader refused the model and why
};

/// One step of an execution and what it takes.
struct StepTime {
    std::string name;         ///< as the engine calls it
    double microseconds = 0;  ///< on the device
    bool operator==(const StepTime&) const = default;
};

/// Bytes that a compiled model takes on its device, by what they are for; 0 for what an engine doesn't tell.
struct MemoryEstimate {
    std::int64_t weights = 0;    ///< constants, and what is computed from them once
    std::int64_t arena = 0;      ///< inputs, outputs and results in between, per request
    std::int64_t workspace = 0;  ///< what libraries ask for, per request
    std::int64_t staging = 0;    ///< of the host, pinned, per request
    /// Of the process, once, whatever is deployed: the driver's context, and the libraries' handles and code as far as they are there already.
    std::int64_t context = 0;
    /// Of the model alone: without the context.
    [[nodiscard]] std::int64_t device_bytes(int requests = 1) const noexcept { return weights + requests * (arena + workspace); }
    bool operator==(const MemoryEstimate&) const = default;
};

}  // namespace ai_vmm
