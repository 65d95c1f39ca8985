// SPDX-License-Identifier: Apache-2.0
/// One function per family of formats; read_model() picks it. Each fills graph, inputs, outputs and the port indices of `model`, whose
/// other fields are set already.
#pragma once

#include <filesystem>
#include <string>

#include "ai_vmm/backend/backend.hpp"
#include "graph/reader.hpp"

namespace ai_vmm::graph {

void read_onnx(const Located& located, const ReadOptions& options, backend::Model& model);
void read_ir(const Located& located, backend::Model& model);
void read_tflite(const Located& located, backend::Model& model);
void read_saved_model(const Located& located, backend::Model& model);
void read_frozen_graph(const Located& located, backend::Model& model);
void read_paddle(const Located& located, backend::Model& model);
void read_gguf(const Located& located, backend::Model& model);
/// TorchScript, torch.export and Hugging Face: through the converter process.
void read_converted(const Located& located, const ReadOptions& options, backend::Model& model);

/// The IR at `xml` with the .bin file beside it, under the graph's own names.
void read_ir_file(const std::filesystem::path& xml, backend::Model& model);

/// The content of the model's main file: the caller's bytes, or the file read whole.
[[nodiscard]] std::shared_ptr<const std::string> main_bytes(const Located& located, std::size_t limit_bytes);

}  // namespace ai_vmm::graph
