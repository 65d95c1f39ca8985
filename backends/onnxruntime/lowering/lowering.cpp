// SPDX-License-Identifier: Apache-2.0
#include "lowering.hpp"

#include "ai_vmm/error.hpp"
#include "context.hpp"

namespace ai_vmm::ort {
namespace {

constexpr int kOpset = 21;
constexpr std::size_t kMaxBytes = std::size_t{2000} << 20;  // protobuf messages end at 2 GiB

const HandlerTable& handlers() {
    static const HandlerTable table = [] {
        HandlerTable result;
        add_elementwise_handlers(result);
        add_neural_handlers(result);
        add_reduction_handlers(result);
        add_shape_handlers(result);
        add_indexing_handlers(result);
        add_recurrent_handlers(result);
        add_quantization_handlers(result);
        add_control_handlers(result);
        return result;
    }();
    return table;
}

bool is(const ov::Node& node, std::string_view name) { return name == node.get_type_name(); }

void lower(Context& context, const ov::Model& model, std::vector<std::string>* refusals) {
    const auto port = [&](auto&& action) {
        try {
            action();
        } catch (const Refusal& refusal) {
            if (refusals == nullptr) throw;
            refusals->emplace_back(refusal.what());
        }
    };
    std::size_t index = 0;
    for (const auto& parameter : model.get_parameters()) {
        const std::string name = lowered_input_name(index++);
        context.set(*parameter, 0, name);
        const ov::PartialShape& shape = parameter->get_partial_shape();
        port([&] { context.graph.input(name, onnx_type(parameter->get_element_type()), dims_of(shape), shape.rank().is_static()); });
    }
    lower_body(context, model, refusals);
    index = 0;
    for (const auto& result : model.get_results()) {
        const ov::Output<ov::Node> source = result->input_value(0);
        const std::string name = lowered_output_name(index++);
        const ov::PartialShape& shape = source.get_partial_shape();
        port([&] {
            context.graph.output(name, context.value(source), onnx_type(source.get_element_type()), dims_of(shape), shape.rank().is_static());
        });
    }
}

}  // namespace

void lower_body(Context& context, const ov::Model& model, std::vector<std::string>* refusals) {
    for (const std::shared_ptr<ov::Node>& node : model.get_ordered_ops()) {
        if (is(*node, "Parameter") || is(*node, "Constant") || is(*node, "Result") || context.is_done(*node)) continue;
        try {
            const auto handler = handlers().find(std::string_view(node->get_type_name()));
            const std::string_view version = node->get_type_info().version_id;
            if (handler == handlers().end() || !version.starts_with("opset")) refuse(*node, "operation is not lowered to ONNX");
            context.graph.set_origin(node->get_friendly_name());
            handler->second(context, *node);
        } catch (const Refusal& refusal) {
            if (refusals == nullptr) throw;
            refusals->emplace_back(refusal.what());
        }
    }
}

std::string lowered_input_name(std::size_t index) { return "input_" + std::to_string(index); }
std::string lowered_output_name(std::size_t index) { return "output_" + std::to_string(index); }

std::vector<std::string> lowering_refusals(const ov::Model& model) {
    Context context(true);
    std::vector<std::string> refusals;
    lower(context, model, &refusals);
    return refusals;
}

std::string lower_to_onnx(const ov::Model& model) {
    std::size_t bytes = 0;
    for (const auto& node : model.get_ops()) {
        if (is(*node, "Constant")) bytes += static_cast<const ov::op::v0::Constant&>(*node).get_byte_size();
    }
    if (bytes > kMaxBytes) {
        throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, "the graph is too large for an ONNX file",
                    {.expected = "at most 2000 MiB of weights", .found = std::to_string(bytes >> 20) + " MiB", .advice = {}});
    }
    Context context(false);
    try {
        lower(context, model, nullptr);
    } catch (const Refusal& refusal) {
        throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, refusal.what());
    }
    return model_proto(context.graph.serialize("ai_vmm"), kOpset);
}

}  // namespace ai_vmm::ort
