// SPDX-License-Identifier: Apache-2.0
#include "graph/assumed_shapes.hpp"

#include <algorithm>
#include <exception>
#include <iterator>
#include <map>
#include <numeric>
#include <openvino/core/graph_util.hpp>
#include <openvino/core/model.hpp>
#include <openvino/op/clamp.hpp>
#include <openvino/op/constant.hpp>
#include <openvino/op/convert.hpp>
#include <openvino/op/convert_like.hpp>
#include <openvino/op/convert_promote_types.hpp>
#include <openvino/op/convolution.hpp>
#include <openvino/op/fake_quantize.hpp>
#include <openvino/op/group_conv.hpp>
#include <openvino/op/parameter.hpp>
#include <openvino/op/sink.hpp>
#include <openvino/op/transpose.hpp>
#include <openvino/op/util/binary_elementwise_arithmetic.hpp>
#include <openvino/op/util/read_value_base.hpp>
#include <openvino/op/util/unary_elementwise_arithmetic.hpp>
#include <optional>
#include <set>

namespace ai_vmm::graph {
namespace {

constexpr std::int64_t kSamples = 16000;  // a second of speech
constexpr std::int64_t kFrames = 16;      // of video or of a volume
// Tried in this order, one of each at a time, where a graph has a length or a size built in that its inputs don't tell.
constexpr std::int64_t kSequenceLengths[] = {128, 512, 256, 64, 1024, 96, 32, 16, 8, 1};
constexpr std::int64_t kImageSides[] = {224, 32, 28, 64, 96, 256, 384, 299, 320, 640};
static_assert(std::size(kSequenceLengths) == std::size(kImageSides));

bool is_channels(const ov::Dimension& value) {
    return value.is_static() && (value.get_length() == 1 || value.get_length() == 3 || value.get_length() == 4);
}

std::int64_t within(const ov::Dimension& range, std::int64_t value) {
    value = std::max(value, range.get_min_length());
    return range.get_max_length() >= 0 ? std::min(value, range.get_max_length()) : value;
}

struct Channels {
    std::size_t dimension;
    std::int64_t count;
};

/// What the first convolution that reads the input says of its channels, with nothing before it but what works element by element or transposes.
std::optional<Channels> channels_of(const ov::Output<const ov::Node>& input) {
    constexpr std::size_t kMostNodes = 64;
    const ov::Rank rank = input.get_partial_shape().rank();
    if (rank.is_dynamic() || rank.get_length() < 3 || !input.get_element_type().is_real()) return std::nullopt;
    std::vector<std::size_t> same(static_cast<std::size_t>(rank.get_length()));
    std::iota(same.begin(), same.end(), std::size_t{0});
    std::vector<std::pair<ov::Output<const ov::Node>, std::vector<std::size_t>>> queue{{input, same}};  // with the input's dimension for each
    std::set<const ov::Node*> seen;
    for (std::size_t next = 0; next < queue.size() && queue.size() < kMostNodes; ++next) {
        const ov::Output<const ov::Node> output = queue[next].first;
        const std::vector<std::size_t> order = queue[next].second;
        for (const auto& target : output.get_target_inputs()) {
            const ov::Node* const node = target.get_node();
            const bool first = target.get_index() == 0;
            const auto found = [&](std::size_t a, std::optional<std::size_t> b = std::nullopt) -> std::optional<Channels> {
                const ov::PartialShape& weights = node->get_input_partial_shape(1);
                if (!first || weights.is_dynamic() || weights.size() <= std::max(a, b.value_or(a))) return std::nullopt;
                return Channels{order[1], weights[a].get_length() * (b ? weights[*b].get_length() : 1)};
            };
            std::optional<Channels> channels;
            if (ov::is_type<ov::op::v1::Convolution>(node)) channels = found(1);
            if (ov::is_type<ov::op::v1::GroupConvolution>(node)) channels = found(0, 2);
            if (ov::is_type<ov::op::v1::ConvolutionBackpropData>(node)) channels = found(0);
            if (channels) return channels;

            std::vector<std::size_t> then = order;
            const bool each = ov::is_type<ov::op::util::UnaryElementwiseArithmetic>(node) ||
                              ov::is_type<ov::op::util::BinaryElementwiseArithmetic>(node) || ov::is_type<ov::op::v14::ConvertPromoteTypes>(node) ||
                              ov::is_type<ov::op::v0::Convert>(node) || ov::is_type<ov::op::v0::Clamp>(node) ||
                              (first && (ov::is_type<ov::op::v1::ConvertLike>(node) || ov::is_type<ov::op::v0::FakeQuantize>(node)));
            if (ov::is_type<ov::op::v1::Transpose>(node)) {
                const auto* const by = ov::as_type<const ov::op::v0::Constant>(node->get_input_node_ptr(1));
                const std::vector<std::size_t> axes = by != nullptr ? by->cast_vector<std::size_t>() : std::vector<std::size_t>{};
                if (!first || axes.size() != order.size() || std::ranges::max(axes) >= order.size()) continue;
                for (std::size_t i = 0; i < axes.size(); ++i) then[i] = order[axes[i]];
            } else if (!each) {
                continue;
            }
            const ov::Output<const ov::Node> result = node->output(ov::is_type<ov::op::v14::ConvertPromoteTypes>(node) ? target.get_index() : 0);
            if (result.get_partial_shape().rank() == rank && seen.insert(node).second) queue.emplace_back(result, std::move(then));
        }
    }
    return std::nullopt;
}

struct Defaults {
    std::int64_t sequence;
    std::int64_t side;
    bool has_token_inputs;
};

/// Shape of one input at the defaults.
Shape default_shape(const ov::Output<const ov::Node>& input, const Defaults& defaults) {
    const ov::PartialShape& shape = input.get_partial_shape();
    const ov::element::Type& type = input.get_element_type();
    const std::optional<Channels> channels = channels_of(input);
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
        guess = {1, defaults.side, defaults.side, defaults.side};
        guess[channels_last ? 3 : 1] = 3;
        if (cache) guess[2] = 0;  // keys or values of the past: none at the start
    } else if (rank == 5) {
        const std::int64_t side = defaults.side / 2;
        guess = {1, 3, kFrames, side, side};
        if (is_channels(shape[4]) && !is_channels(shape[1])) guess = {1, kFrames, side, side, 3};
    }
    if (channels && rank == 4) std::fill(guess.begin() + 1, guess.end(), defaults.side);
    if (channels && rank == 5 && channels->dimension == 4) guess = {1, kFrames, defaults.side / 2, defaults.side / 2, 0};
    if (channels && rank == 3 && channels->count == 1) std::fill(guess.begin() + 1, guess.end(), kSamples);  // a wave
    if (channels) guess[channels->dimension] = channels->count;
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
    for (std::size_t attempt = 0; attempt < std::size(kSequenceLengths); ++attempt) {
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
            if (!shape && partial.rank().is_static()) shape = default_shape(inputs[i], {kSequenceLengths[attempt], kImageSides[attempt], has_tokens});
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
