// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ai_vmm::graph {

/// What the bytes of a file are. The first group can be models; the others are told apart for the sake of advice.
enum class Content : std::uint8_t {
    onnx,
    openvino_ir,
    saved_model,  ///< TensorFlow's saved_model.pb
    frozen_graph,
    tflite,
    paddle_program,
    torch_zip,  ///< a zip file that PyTorch wrote: TorchScript, torch.export or a state dictionary
    gguf,

    empty,
    hdf5,
    pickle,
    safetensors,
    torch_legacy,  ///< torch.save() before 1.6
    paddle_pir,    ///< Paddle 3's JSON program
    archive,
    json,
    xml,
    text,
    fragment,
    image_or_sound,
    unknown,
};

/// A name for messages: "an ONNX model", "an archive", …
[[nodiscard]] std::string_view describe(Content content) noexcept;
[[nodiscard]] constexpr bool is_model(Content content) noexcept { return content <= Content::gguf; }

/// How many of the first bytes recognise() needs.
inline constexpr std::size_t kRecognisedPrefix = 65536;

/// Tells from the first bytes of a file what it is; the name plays no part.
/// @param prefix      the first bytes: all of them, or at least kRecognisedPrefix.
/// @param size_bytes  of the whole file.
[[nodiscard]] Content recognise(std::string_view prefix, std::uint64_t size_bytes);

}  // namespace ai_vmm::graph
