// SPDX-License-Identifier: Apache-2.0
#include "graph/assumed_shapes.hpp"

#include <algorithm>
#include <exception>
#include <map>
#include <openvino/core/graph_util.hpp>
#include <openvino/core/model.hpp>
#include <openvino/op/parameter.hpp>
#include <openvino/op/sink.hpp>
#include <openvino/op/util/read_value_base.hpp>
#include <optional>

namespace ai_vmm::graph {
namespace {

constexpr std::int64_t kImageSide = 224;
constexpr std::int64_t kSamples = 16000;  // a second of speech
constexpr std::int64_t kFrames = 16;      // of video or of a volume
// Tried in this order where a graph has a length built in that its inputs don't tell.
constexpr std::int64_t kSequenceLengths[] = {128, 512, 256, 64, 1024, 96, 32, 16, 8, 1};

bool is_channels(const ov::Dimension& value) {
    return value.is_static() && (value.get_length() == 1 || value.get_length() == 3 || value.get_length() == 4);
}

std::int64_t within(const ov::Dimension& range, std::int64_t value) {
    value = std::max(value, range.get_min_length());
    return range.get_max_length() >= 0 ? std::min(value, range.get_max_length()) : value;
}

struct Defaults {
    std::int64_t sequence;
    bool has_token_inputs;
};

/// Shape of one input at the defaults.
Shape default_shape(const ov::PartialShape& shape, const ov::element::Type& type, const Defaults& defaults) {
    const auto rank = static_cast<std::size_t>(shape.rank().get_length());
    const bool integers = !type.is_real();
    std::vector<std::int64_t> guess(rank, 1);
    if (rank == 1) {
        guess[0] = integers || defaults.has_token_inputs ? 1 : kSamples;
    } else if (integers) {
        for (std::size_t i = 1; i < rank; ++i) guess[i] = defaults.sequence;
    } else if (rank == 2) {
        guess[1] = defaults.has_token_inputs ? defaults.sequence : kSamples;
    } else if (rank == 3) {
        for (std::size_t i = 1; i < 3; ++i) guess[i] = defaults.sequence;
        if (shape[2].is_static() && shape[2].get_length() == 1) guess[1] = kSamples;
        if (shape[1].is_static() && shape[1].get_length() == 1) guess[2] = kSamples;
    } else if (rank == 4) {
        const bool cache = shape[1].is_static() && shape[3].is_static() && shape[2].is_dynamic() && !is_channels(shape[1]) && !is_channels(shape[3]);
        const bool channels_last = is_channels(shape[3]) && !is_channels(shape[1]);
        guess = {1, kImageSide, kImageSide, kImageSide};
        guess[channels_last ? 3 : 1] = 3;
        if (cache) guess[2] = 0;  // keys or values of the past: none at the start
    } else if (rank == 5) {
        guess = {1, 3, kFrames, kImageSide / 2, kImageSide / 2};
        if (is_channels(shape[4]) && !is_channels(shape[1])) guess = {1, kFrames, kImageSide / 2, kImageSide / 2, 3};
    }
    Shape result(rank);
    for (std::size_t i = 0; i < rank; ++i) result[i] = shape[i].is_static() ? shape[i].get_length() : within(shape[i], guess[i]);
    return result;
}

ov::PartialShape to_partial(const Shape& shape) {
    std::vector<ov::Dimension> dimensions;
    for (const std::int64_t value : shape) dimensions.emplace_back(value);
    return ov::PartialShape(dimensions);
}

/// The name that the file gives input `index` of the graph.
std::string input_name(const backend::Model& model, std::size_t index) {
    for (std::size_t i = 0; i < model.graph_inputs.size() && i < model.inputs.size(); ++i) {
        if (model.graph_inputs[i] == static_cast<int>(index)) return model.inputs[i].name;
    }
    const auto input = model.graph->inputs().at(index);
    return input.get_names().empty() ? input.get_node()->get_friendly_name() : *input.get_names().begin();
}

/// States would keep their dynamic shapes whatever the inputs are: in the copy they become inputs of an empty state.
void replace_states(ov::Model& model) {
    for (const auto& node : model.get_ordered_ops()) {
        const auto read = std::dynamic_pointer_cast<ov::op::util::ReadValueBase>(node);
        if (!read || read->get_output_partial_shape(0).is_static() || read->get_output_partial_shape(0).rank().is_dynamic()) continue;
        Shape shape;
        for (const ov::Dimension& value : read->get_output_partial_shape(0)) {
            shape.push_back(value.is_static() ? value.get_length() : within(value, shape.empty() ? 1 : 0));
        }
        const auto parameter = std::make_shared<ov::op::v0::Parameter>(read->get_output_element_type(0), to_partial(shape));
        parameter->set_friendly_name(read->get_friendly_name());
        ov::replace_node(read, parameter);
        model.add_parameters({parameter});
    }
    const auto sinks = model.get_sinks();
    for (const auto& sink : sinks) {
        if (sink->get_input_size() > 0) model.remove_sink(sink);
    }
}

}  // namespace

ShapedGraph assume_shapes(const backend::Model& model, const std::vector<std::pair<std::string, Shape>>& input_shapes) {
    ShapedGraph result{model.graph, {}, {}};
    const auto inputs = model.graph->inputs();
    bool has_tokens = false;
    bool rank_missing = false;
    for (const auto& input : inputs) {
        const ov::PartialShape& shape = input.get_partial_shape();
        if (shape.rank().is_dynamic()) {
            rank_missing = true;
        } else if (input.get_element_type().is_integral_number() && shape.rank().get_length() >= 2) {
            has_tokens = true;
        }
    }
    const bool stateful = !model.graph->get_sinks().empty();
    if (!model.graph->is_dynamic() || (inputs.empty() && !stateful)) return result;

    std::string refusal;
    for (const std::int64_t length : kSequenceLengths) {
        std::map<std::size_t, ov::PartialShape> shapes;
        std::vector<std::pair<std::string, Shape>> assumed;
        bool given_for_all = true;
        for (std::size_t i = 0; i < inputs.size(); ++i) {
            const ov::PartialShape& partial = inputs[i].get_partial_shape();
            if (partial.is_static()) continue;
            const std::string name = input_name(model, i);
            const auto given = std::find_if(input_shapes.begin(), input_shapes.end(), [&](const auto& item) { return item.first == name; });
            std::optional<Shape> shape;
            if (given != input_shapes.end() && partial.compatible(to_partial(given->second))) shape = given->second;
            if (!shape) given_for_all = false;
            if (!shape && partial.rank().is_static()) shape = default_shape(partial, inputs[i].get_element_type(), {length, has_tokens});
            if (!shape) continue;
            shapes[i] = to_partial(*shape);
            assumed.emplace_back(name, *shape);
        }
        try {
            const std::shared_ptr<ov::Model> copy = model.graph->clone();
            if (stateful) replace_states(*copy);
            copy->reshape(shapes);
            result.graph = copy;
            result.shapes = std::move(assumed);
            break;
        } catch (const std::exception& error) {
            if (refusal.empty()) refusal = error.what();
        }
        if (given_for_all) break;  // another length changes nothing
    }
    if (result.graph == model.graph) {
        result.notes.push_back("the graph could not be given static shapes; unknown dimensions count as their least value: " +
                               refusal.substr(0, refusal.find('\n')));
    } else if (stateful) {
        result.notes.push_back("states are counted as they are at the start (empty where their size is dynamic)");
    }
    if (rank_missing) result.notes.push_back("an input of unknown rank is counted as one element");
    return result;
}

}  // namespace ai_vmm::graph
