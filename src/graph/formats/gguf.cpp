// SPDX-License-Identifier: Apache-2.0
#include <openvino/core/model.hpp>
#include <openvino/frontend/extension/decoder_transformation.hpp>
#include <openvino/frontend/gguf/adapt_to_genai.hpp>
#include <openvino/frontend/gguf/frontend.hpp>
#include <openvino/frontend/gguf/make_stateful.hpp>
#include <openvino/pass/manager.hpp>

#include "graph/bytes.hpp"
#include "graph/formats/named_file.hpp"
#include "graph/openvino_import.hpp"
#include "graph/readers.hpp"

namespace ai_vmm::graph {

void read_gguf(const Located& located, backend::Model& model) {
    const NamedFile named(located, ".gguf");
    std::string refusal;
    try {
        namespace gguf = ov::frontend::gguf;
        gguf::FrontEnd frontend;
        frontend.add_extension(std::make_shared<ov::frontend::DecoderTransformationExtension>(
            [](std::shared_ptr<ov::Model> graph) { return gguf::pass::GGUFMakeStateful().run_on_model(graph); }));
        const auto graph = frontend.convert(frontend.load(named.path().string()));
        ov::pass::Manager passes;
        passes.register_pass<gguf::pass::AdaptToGenAI>();
        passes.run_passes(graph);
        model.graph = graph;
    } catch (...) {
        refusal = current_refusal();
    }
    if (!model.graph) throw not_convertible(shown(located.path), refusal, "use the model's original Hugging Face directory instead");
    describe_graph(model);
}

}  // namespace ai_vmm::graph
