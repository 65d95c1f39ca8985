// SPDX-License-Identifier: Apache-2.0
#include "graph/reader.hpp"

#include <new>

#include "base/file.hpp"
#include "graph/bytes.hpp"
#include "graph/openvino_import.hpp"
#include "graph/readers.hpp"
#include "graph/trial.hpp"

namespace ai_vmm::graph {

std::shared_ptr<const std::string> main_bytes(const Located& located, std::size_t limit_bytes) {
    if (located.bytes) {
        if (located.bytes->size() > limit_bytes) {
            throw Error(ErrorCode::resource_exhausted, ErrorCategory::input, "the model in memory is too large",
                        {.expected = "at most " + std::to_string(limit_bytes) + " bytes",
                         .found = std::to_string(located.bytes->size()) + " bytes",
                         .advice = {}});
        }
        return located.bytes;
    }
    return std::make_shared<const std::string>(base::read_file(located.path, limit_bytes));
}

backend::Model read_model(const Located& located, const ReadOptions& options) {
    backend::Model model;
    model.format = located.format;
    model.path = located.path;
    model.bytes = located.bytes;
    model.name = located.name;
    model.content_hash = located.content_hash;
    if (options.stop.stop_requested())
        throw Error(ErrorCode::cancelled, ErrorCategory::compilation, "reading " + shown(located.path) + " was cancelled");
    if (options.progress) options.progress("read", 0.0);
    try {
        // ONNX files are tried by their reader: what OpenVINO does not survive ONNX Runtime may still run.
        const bool risky = located.format == ModelFormat::tensorflow_saved_model || located.format == ModelFormat::tensorflow_frozen ||
                           located.format == ModelFormat::tflite || located.format == ModelFormat::paddle;
        if (risky && !options.without_trial) try_reading(located, options.stop);
        switch (located.format) {
            case ModelFormat::onnx: read_onnx(located, options, model); break;
            case ModelFormat::openvino_ir: read_ir(located, model); break;
            case ModelFormat::tensorflow_saved_model: read_saved_model(located, model); break;
            case ModelFormat::tensorflow_frozen: read_frozen_graph(located, model); break;
            case ModelFormat::tflite: read_tflite(located, model); break;
            case ModelFormat::paddle: read_paddle(located, model); break;
            case ModelFormat::gguf: read_gguf(located, model); break;
            case ModelFormat::torchscript:
            case ModelFormat::torch_export:
            case ModelFormat::huggingface: read_converted(located, options, model); break;
            case ModelFormat::unknown: throw malformed(shown(located.path) + " is of no known model format");
        }
    } catch (const Error&) {
        throw;
    } catch (const std::bad_alloc&) {
        throw Error(ErrorCode::resource_exhausted, ErrorCategory::compilation, "not enough memory to read " + shown(located.path));
    } catch (const std::exception& error) {
        throw Error(ErrorCode::invalid_argument, ErrorCategory::compilation, "can't read " + shown(located.path),
                    {.expected = {}, .found = clean_message(error.what()), .advice = {}});
    }
    if (options.progress) options.progress("read", 1.0);
    return model;
}

}  // namespace ai_vmm::graph
