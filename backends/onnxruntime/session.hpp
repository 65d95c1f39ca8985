// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ai_vmm/backend/backend.hpp"
#include "library.hpp"

namespace ai_vmm::ort {

/// A serialised model with the files its weights are in, all in memory: the engine would map the files, and a mapped file that shrinks ends
/// the process.
struct ModelBytes {
    std::shared_ptr<const std::string> model;                        ///< ONNX or ORT format
    std::vector<std::pair<std::string, std::string>> external_data;  ///< location as the model spells it, content

    [[nodiscard]] std::size_t size_bytes() const noexcept;
};

/// Content of an ONNX model: of `model.bytes`, or of the file `model.path` and the external data beside it.
/// @throws Error(invalid_argument) external data outside the model's folder, or with a model given in memory; base::read_file()'s errors.
[[nodiscard]] ModelBytes load_onnx(const backend::Model& model);

/// How many worker threads a session has: what `threads` per stream need beside the `streams` callers' own threads.
[[nodiscard]] int intra_op_threads(const backend::CompileConfig& config) noexcept;

/// Whether workers wait for work actively. See docs/guide/backend-onnxruntime.md for the measurement.
[[nodiscard]] bool spinning(const backend::CompileConfig& config) noexcept;

struct SessionOptions {
    bool prepared = false;                ///< the bytes are an optimised model in ORT format
    std::filesystem::path save_prepared;  ///< if not empty: where the optimised model is written to, in ORT format
};

/// Makes a session.
/// @throws Error as check() does.
[[nodiscard]] Owner<OrtSession> make_session(const ModelBytes& bytes, const backend::CompileConfig& config, const SessionOptions& options = {});

/// How many sessions serve the streams of one executable. Requests of a session share the lock of its arena, which costs small models that run side
/// by side up to half of their throughput; large models are not kept several times.
[[nodiscard]] int sessions_for(const backend::CompileConfig& config, std::size_t model_bytes) noexcept;

/// The sessions of one executable, sessions_for() many.
/// @throws Error as make_session().
[[nodiscard]] std::vector<Owner<OrtSession>> make_sessions(const ModelBytes& bytes, const backend::CompileConfig& config,
                                                           const SessionOptions& options = {});

/// One input or output of a session. Type `undefined`: not a tensor (a sequence, map, optional or sparse tensor).
struct Port {
    std::string name;
    ElementType type = ElementType::undefined;
    Shape shape;
    std::string kind;  ///< "tensor", "sequence", "map", "optional", "sparse tensor", "opaque"
};
struct Ports {
    std::vector<Port> inputs;
    std::vector<Port> defaults;  ///< inputs that have an initialiser and may be left out
    std::vector<Port> outputs;
};
[[nodiscard]] Ports ports_of(const OrtSession* session);

}  // namespace ai_vmm::ort
