// SPDX-License-Identifier: Apache-2.0
/// Arbitrary bytes as a model file: locate() and read_model() must give a consistent model or an Error. AI_VMM_FUZZ_FORMAT picks the format
/// that this target keeps in its corpus; what needs another process (PyTorch, Hugging Face) is located only.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <openvino/core/model.hpp>
#include <string>

#include "ai_vmm/error.hpp"
#include "graph/reader.hpp"

namespace {

namespace fs = std::filesystem;
using ai_vmm::ModelFormat;

constexpr ModelFormat kFormat = ModelFormat::AI_VMM_FUZZ_FORMAT;

[[noreturn]] void fail(const char* what) {
    std::fprintf(stderr, "broken promise: %s\n", what);
    std::abort();
}

/// A folder in memory, one per process.
const fs::path& folder() {
    static const fs::path path = [] {
        std::string name = (fs::exists("/dev/shm") ? "/dev/shm" : "/tmp") + std::string("/ai_vmm_fuzz_XXXXXX");
        if (!::mkdtemp(name.data())) fail("no folder");
        static const fs::path made = name;
        std::atexit([] {
            std::error_code ignored;
            fs::remove_all(made, ignored);
        });
        return made;
    }();
    return path;
}

void write(const fs::path& path, std::string_view content) {
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary | std::ios::trunc).write(content.data(), static_cast<std::streamsize>(content.size()));
}

/// Where the bytes go: most formats are read from memory; the others need their neighbours.
ai_vmm::ModelSource source_of(std::string content) {
    switch (kFormat) {
        case ModelFormat::openvino_ir:
            write(folder() / "m.xml", content);
            if (!fs::exists(folder() / "m.bin")) write(folder() / "m.bin", std::string(1 << 18, '\1'));
            return folder() / "m.xml";
        case ModelFormat::tensorflow_saved_model: write(folder() / "saved_model.pb", content); return folder();
        case ModelFormat::huggingface:
            write(folder() / "config.json", content);
            write(folder() / "modules.json", content);
            write(folder() / "model.safetensors", std::string_view("\x02\0\0\0\0\0\0\0{}", 10));
            return folder();
        case ModelFormat::paddle:
            write(folder() / "m.pdmodel", content);
            if (!fs::exists(folder() / "m.pdiparams")) write(folder() / "m.pdiparams", std::string(1 << 18, '\0'));
            return folder() / "m.pdmodel";
        default: return ai_vmm::ModelSource::from_bytes(std::move(content));
    }
}

void check(const ai_vmm::backend::Model& model) {
    if (model.graph_inputs.size() != model.inputs.size() || model.graph_outputs.size() != model.outputs.size()) fail("an index per port");
    if (!model.graph) {
        if (model.format != ModelFormat::onnx || model.graph_refusal.empty()) fail("no graph without a reason");
        return;
    }
    for (const int index : model.graph_inputs) {
        if (index < -1 || index >= static_cast<int>(model.graph->inputs().size())) fail("an input's index");
    }
    for (const int index : model.graph_outputs) {
        if (index < 0 || index >= static_cast<int>(model.graph->outputs().size())) fail("an output's index");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    bool wanted = false;
    try {
        const ai_vmm::graph::Located located = ai_vmm::graph::locate(source_of(std::string(reinterpret_cast<const char*>(bytes), size)));
        wanted = located.format == kFormat;
        if (located.content_hash.size() != 64) fail("a content hash");
        if (!wanted || kFormat == ModelFormat::torchscript || kFormat == ModelFormat::torch_export || kFormat == ModelFormat::huggingface) return 0;
        check(ai_vmm::graph::read_model(located));
    } catch (const ai_vmm::Error& error) {
        if (error.message().empty() || std::string_view(error.what()).size() > 16384) fail("a message that can be read");
    }
    return 0;
}
