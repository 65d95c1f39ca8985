// SPDX-License-Identifier: Apache-2.0
#include "graph/cutter.hpp"

#include <algorithm>
#include <map>
#include <numeric>
#include <openvino/core/model.hpp>
#include <openvino/op/constant.hpp>
#include <openvino/op/parameter.hpp>
#include <openvino/op/result.hpp>
#include <openvino/op/util/assign_base.hpp>
#include <openvino/op/util/multi_subgraph_base.hpp>
#include <openvino/op/util/read_value_base.hpp>
#include <set>
#include <utility>

#include "base/hash.hpp"
#include "graph/element_types.hpp"
#include "graph/openvino_import.hpp"

namespace ai_vmm::graph {
namespace {

using NodePtr = std::shared_ptr<ov::Node>;

/// Key of a node's number in rt_info, which clones of a model keep.
constexpr const char* kNumber = "ai_vmm_cut_number";

[[noreturn]] void cant_cut(const std::string& why) {
    throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, "the model can't be cut: " + why);
}

/// A copy of `model`, by the numbers that its nodes carry, which are taken off.
struct NumberedClone {
    std::shared_ptr<ov::Model> model;
    std::vector<NodePtr> nodes;

    NumberedClone(const ov::Model& from, std::size_t count) : model(from.clone()), nodes(count) {
        for (const NodePtr& node : model->get_ordered_ops()) {
            auto& info = node->get_rt_info();
            const auto number = info.find(kNumber);
            if (number == info.end()) continue;
            nodes[static_cast<std::size_t>(number->second.as<int>())] = node;
            info.erase(number);
        }
    }
};

/// Whether a node gives the same for the same inputs, so that copies of it may stand in several sub-models.
bool is_repeatable(const ov::Node& node) {
    const std::string_view type = node.get_type_name();
    return type != "RandomUniform" && type != "Multinomial" && !ov::is_type<ov::op::util::ReadValueBase>(&node) &&
           !ov::is_type<ov::op::util::AssignBase>(&node) && !ov::is_type<ov::op::util::MultiSubGraphOp>(&node);
}

std::string variable_of(const ov::Node& node) {
    if (const auto* read = ov::as_type<const ov::op::util::ReadValueBase>(&node)) return read->get_variable_id();
    if (const auto* assign = ov::as_type<const ov::op::util::AssignBase>(&node)) return assign->get_variable_id();
    return {};
}

ov::PartialShape to_partial(const Shape& shape) { return {std::vector<ov::Dimension>(shape.begin(), shape.end())}; }

/// Gives a graph's inputs the shapes of the model's inputs. False if the graph does not take them.
bool reshape(ov::Model& graph, const std::vector<int>& graph_inputs, const std::vector<Shape>& shapes) {
    if (shapes.size() != graph_inputs.size()) return false;
    try {
        std::map<std::size_t, ov::PartialShape> wanted;
        for (std::size_t i = 0; i < shapes.size(); ++i) {
            if (graph_inputs[i] >= 0) wanted[static_cast<std::size_t>(graph_inputs[i])] = to_partial(shapes[i]);
        }
        graph.reshape(wanted);
        return true;
    } catch (const std::exception&) {
        return false;
    }
}

std::int64_t bytes_of(const ov::Output<ov::Node>& port) {
    if (port.get_partial_shape().is_dynamic() || port.get_element_type().is_dynamic() || port.get_element_type() == ov::element::string) return 0;
    return static_cast<std::int64_t>((ov::shape_size(port.get_shape()) * port.get_element_type().bitwidth() + 7) / 8);
}

/// Numbers that are united.
class Union {
public:
    explicit Union(std::size_t count) : parent_(count) { std::iota(parent_.begin(), parent_.end(), 0); }
    int find(int x) {
        while (parent_[static_cast<std::size_t>(x)] != x) x = parent_[static_cast<std::size_t>(x)] = find(parent_[static_cast<std::size_t>(x)]);
        return x;
    }
    void unite(int a, int b) {
        a = find(a), b = find(b);
        parent_[static_cast<std::size_t>(std::max(a, b))] = std::min(a, b);
    }

private:
    std::vector<int> parent_;
};

}  // namespace

struct Cutter::Impl {
    backend::Model whole;             ///< without its graph
    std::shared_ptr<ov::Model> base;  ///< own copy, nodes numbered
    std::vector<NodePtr> nodes;       ///< of `base`, in execution order
    std::map<const ov::Node*, int> number;
    std::vector<bool> from_constants;
    std::vector<int> group_of;                             ///< per node; -1: in none
    std::vector<std::vector<int>> group_nodes;             ///< per group
    std::map<std::pair<int, std::size_t>, int> tensor_of;  ///< node and output to tensor
    std::vector<std::pair<int, std::size_t>> tensor_port;  ///< back
    std::vector<CutGroup> groups;
    std::vector<CutTensor> tensors;

    [[nodiscard]] int number_of(const ov::Node* node) const { return number.at(node); }
    [[nodiscard]] const NodePtr& node(int n) const { return nodes[static_cast<std::size_t>(n)]; }
    [[nodiscard]] int& group(int n) { return group_of[static_cast<std::size_t>(n)]; }
    [[nodiscard]] int group(int n) const { return group_of[static_cast<std::size_t>(n)]; }

    void number_nodes() {
        nodes = base->get_ordered_ops();
        for (std::size_t n = 0; n < nodes.size(); ++n) {
            nodes[n]->get_rt_info()[kNumber] = static_cast<int>(n);
            number[nodes[n].get()] = static_cast<int>(n);
        }
    }

    void find_constants() {
        from_constants.assign(nodes.size(), false);
        for (std::size_t n = 0; n < nodes.size(); ++n) {
            const ov::Node& node = *nodes[n];
            const bool leaf = ov::is_type<ov::op::v0::Constant>(&node);
            if (!leaf && (node.get_input_size() == 0 || !is_repeatable(node))) continue;
            bool all = !ov::is_type<ov::op::v0::Parameter>(&node) && !ov::is_type<ov::op::v0::Result>(&node);
            for (std::size_t i = 0; i < node.get_input_size() && all; ++i)
                all = from_constants[static_cast<std::size_t>(number_of(node.get_input_node_ptr(i)))];
            from_constants[n] = all;
        }
    }

    [[nodiscard]] bool is_placed(int n) const {
        const NodePtr& one = node(n);
        if (ov::is_type<ov::op::v0::Parameter>(one.get()) || ov::is_type<ov::op::v0::Result>(one.get())) return false;
        if (!from_constants[static_cast<std::size_t>(n)]) return true;
        for (const auto& output : one->outputs()) {  // somebody has to give the caller a constant
            for (const auto& target : output.get_target_inputs()) {
                if (ov::is_type<ov::op::v0::Result>(target.get_node())) return true;
            }
        }
        return false;
    }

    /// Reading and assigning a variable stays together, with everything in between: apart they would wait for each other.
    void unite_variables(Union& together) {
        std::map<std::string, std::pair<std::vector<int>, std::vector<int>>> variables;
        for (std::size_t n = 0; n < nodes.size(); ++n) {
            const std::string id = variable_of(*nodes[n]);
            if (id.empty()) continue;
            auto& [reads, assigns] = variables[id];
            (ov::is_type<ov::op::util::AssignBase>(nodes[n].get()) ? assigns : reads).push_back(static_cast<int>(n));
        }
        for (const auto& [id, uses] : variables) {
            const auto& [reads, assigns] = uses;
            std::vector<bool> below(nodes.size()), above(nodes.size());
            for (int n : reads) below[static_cast<std::size_t>(n)] = true;
            for (int n : assigns) above[static_cast<std::size_t>(n)] = true;
            for (std::size_t n = 0; n < nodes.size(); ++n) {
                for (const auto& input : nodes[n]->inputs())
                    below[n] = below[n] || below[static_cast<std::size_t>(number_of(input.get_source_output().get_node()))];
            }
            for (std::size_t n = nodes.size(); n-- > 0;) {
                if (!above[n]) continue;
                for (const auto& input : nodes[n]->inputs()) above[static_cast<std::size_t>(number_of(input.get_source_output().get_node()))] = true;
            }
            int first = reads.empty() ? assigns.front() : reads.front();
            for (const auto* list : {&reads, &assigns}) {
                for (int n : *list) together.unite(first, n);
            }
            for (std::size_t n = 0; n < nodes.size(); ++n) {
                if (below[n] && above[n]) together.unite(first, static_cast<int>(n));
            }
        }
    }

    /// Groups in an order in which they can run. What waits for itself through several variables becomes one group.
    void order_groups(Union& together) {
        std::map<int, std::vector<int>> members;
        std::vector<int> root(nodes.size(), -1);
        for (std::size_t n = 0; n < nodes.size(); ++n) {
            if (!is_placed(static_cast<int>(n))) continue;
            root[n] = together.find(static_cast<int>(n));
            members[root[n]].push_back(static_cast<int>(n));
        }
        std::map<int, std::set<int>> waits, wakes;
        for (std::size_t n = 0; n < nodes.size(); ++n) {
            if (root[n] < 0) continue;
            for (const auto& input : nodes[n]->inputs()) {
                const auto source = static_cast<std::size_t>(number_of(input.get_source_output().get_node()));
                const int from = root[source];
                if (from < 0 || from == root[n] || from_constants[source]) continue;
                waits[root[n]].insert(from);
                wakes[from].insert(root[n]);
            }
        }
        std::set<int> ready;
        for (const auto& [one, list] : members) {
            if (waits[one].empty()) ready.insert(one);
        }
        std::vector<int> left;
        while (!ready.empty()) {
            const int one = *ready.begin();
            ready.erase(ready.begin());
            group_nodes.push_back(std::move(members[one]));
            members.erase(one);
            for (int next : wakes[one]) {
                waits[next].erase(one);
                if (waits[next].empty()) ready.insert(next);
            }
        }
        for (const auto& [one, list] : members) left.insert(left.end(), list.begin(), list.end());
        std::ranges::sort(left);
        if (!left.empty()) group_nodes.push_back(std::move(left));
        group_of.assign(nodes.size(), -1);
        for (std::size_t g = 0; g < group_nodes.size(); ++g) {
            for (int n : group_nodes[g]) group(n) = static_cast<int>(g);
        }
    }

    void add_constants(int n, std::set<int>& into) const {
        if (!from_constants[static_cast<std::size_t>(n)] || !into.insert(n).second) return;
        for (const auto& input : node(n)->inputs()) add_constants(number_of(input.get_source_output().get_node()), into);
    }

    /// @param sized  the nodes at typical shapes, or of unknown shapes
    void describe(const std::vector<NodePtr>& sized) {
        groups.resize(group_nodes.size());
        for (std::size_t g = 0; g < groups.size(); ++g) {
            std::set<int> constants;
            for (int n : group_nodes[g]) {
                groups[g].nodes.push_back(node(n)->get_friendly_name());
                for (const auto& input : node(n)->inputs()) add_constants(number_of(input.get_source_output().get_node()), constants);
                for (const auto& output : sized[static_cast<std::size_t>(n)]->outputs())
                    groups[g].open_shape = groups[g].open_shape || output.get_partial_shape().is_dynamic();
            }
            for (int n : constants) {
                if (group(n) < 0) groups[g].copied.push_back(node(n)->get_friendly_name());
            }
        }
        for (std::size_t n = 0; n < nodes.size(); ++n) {
            const bool parameter = ov::is_type<ov::op::v0::Parameter>(nodes[n].get());
            const int from = group_of[n];
            if (!parameter && from < 0) continue;
            for (std::size_t port = 0; port < nodes[n]->get_output_size(); ++port) {
                CutTensor tensor{.producer = parameter ? -1 : from};
                std::set<int> readers;
                for (const auto& target : nodes[n]->output(port).get_target_inputs()) {
                    const auto found = number.find(target.get_node());
                    if (found == number.end()) continue;  // of a node that leads nowhere
                    if (ov::is_type<ov::op::v0::Result>(target.get_node())) tensor.output = true;
                    const int reader = group(found->second);
                    if (reader >= 0 && reader != tensor.producer && !from_constants[n]) readers.insert(reader);
                }
                if (readers.empty() && !tensor.output) continue;
                tensor.consumers.assign(readers.begin(), readers.end());
                const auto sized_port = sized[n]->output(port);
                tensor.bytes = bytes_of(sized_port);
                tensor.open_shape = sized_port.get_partial_shape().is_dynamic();
                tensor_of[{static_cast<int>(n), port}] = static_cast<int>(tensors.size());
                tensor_port.emplace_back(static_cast<int>(n), port);
                tensors.push_back(std::move(tensor));
            }
        }
    }
};

Cutter::Cutter(const backend::Model& model, const std::vector<Shape>& typical_shapes) : impl_(std::make_unique<Impl>()) {
    if (!model.graph) cant_cut("it has no graph: " + model.graph_refusal);
    for (const TensorInfo& info : model.inputs) {
        if (info.optional) cant_cut("input '" + info.name + "' has a default");
    }
    if (model.graph_inputs.size() != model.inputs.size() || model.graph_outputs.size() != model.outputs.size() ||
        std::ranges::any_of(model.graph_outputs, [](int at) { return at < 0; }))
        cant_cut("its outputs are not all in the graph");
    impl_->whole = model;
    impl_->whole.graph.reset();
    try {
        impl_->base = model.graph->clone();
        impl_->number_nodes();
        impl_->find_constants();
        Union together(impl_->nodes.size());
        impl_->unite_variables(together);
        impl_->order_groups(together);
        NumberedClone sized(*impl_->base, impl_->nodes.size());
        if (!reshape(*sized.model, model.graph_inputs, typical_shapes)) sized = NumberedClone(*impl_->base, impl_->nodes.size());
        impl_->describe(sized.nodes);
    } catch (const Error&) {
        throw;
    } catch (const std::exception&) {
        cant_cut(current_refusal());
    }
}

Cutter::~Cutter() = default;

const std::vector<CutGroup>& Cutter::groups() const noexcept { return impl_->groups; }
const std::vector<CutTensor>& Cutter::tensors() const noexcept { return impl_->tensors; }

Cut Cutter::cut(const std::vector<int>& stage_of_group) const {
    const Impl& impl = *impl_;
    const auto wrong = [](const char* why) { throw Error(ErrorCode::internal, ErrorCategory::compilation, std::string("no placement: ") + why); };
    if (stage_of_group.size() != impl.groups.size() || stage_of_group.empty()) wrong("it needs one stage per group");
    const int stages = *std::ranges::max_element(stage_of_group) + 1;
    for (int s = 0; s < stages; ++s) {
        if (std::ranges::find(stage_of_group, s) == stage_of_group.end()) wrong("a stage is empty");
    }
    const auto stage_of = [&](int group) { return group < 0 ? -1 : stage_of_group[static_cast<std::size_t>(group)]; };
    for (const CutTensor& tensor : impl.tensors) {
        for (int reader : tensor.consumers) {
            if (stage_of(reader) < stage_of(tensor.producer)) wrong("a group reads what a later stage computes");
        }
    }

    Cut cut;
    cut.stages.resize(static_cast<std::size_t>(stages));
    cut.inputs.assign(impl.whole.inputs.size(), -1);
    cut.outputs.assign(impl.whole.outputs.size(), -1);
    std::vector<int> value_of(impl.tensors.size(), -1);
    std::vector<TensorInfo> infos;  // per value
    std::set<std::string> names;
    const auto add_value = [&](TensorInfo info) {
        std::string name = info.name;
        for (int k = 1; !names.insert(info.name).second; ++k) info.name = name + "#" + std::to_string(k);
        infos.push_back(std::move(info));
        return cut.values++;
    };
    const auto parameter_number = [&](std::size_t k) { return impl.number_of(impl.base->get_parameters()[k].get()); };
    for (std::size_t k = 0; k < impl.whole.inputs.size(); ++k) {
        if (impl.whole.graph_inputs[k] < 0) continue;
        const auto tensor = impl.tensor_of.find({parameter_number(static_cast<std::size_t>(impl.whole.graph_inputs[k])), 0});
        if (tensor == impl.tensor_of.end()) continue;
        cut.inputs[k] = value_of[static_cast<std::size_t>(tensor->second)] = add_value(impl.whole.inputs[k]);
    }
    // What crosses from one stage to another.
    for (std::size_t t = 0; t < impl.tensors.size(); ++t) {
        const CutTensor& tensor = impl.tensors[t];
        if (tensor.producer < 0) {
            if (value_of[t] < 0 && !tensor.consumers.empty()) cant_cut("an input of its graph is none of the model");
            continue;
        }
        const bool crosses = std::ranges::any_of(tensor.consumers, [&](int reader) { return stage_of(reader) != stage_of(tensor.producer); });
        if (!crosses) continue;
        const auto [n, port] = impl.tensor_port[t];
        const auto output = impl.node(n)->output(port);
        TensorInfo info{.name = impl.node(n)->get_friendly_name() + (port == 0 ? "" : "." + std::to_string(port)),
                        .type = from_openvino(output.get_element_type()),
                        .shape = {},
                        .rank_known = output.get_partial_shape().rank().is_static()};
        if (info.type == ElementType::undefined) cant_cut("the element type of '" + info.name + "' is not known before it runs");
        if (info.rank_known) {
            for (const auto& dimension : output.get_partial_shape()) info.shape.push_back(dimension.is_static() ? dimension.get_length() : -1);
        }
        value_of[t] = add_value(std::move(info));
    }
    // What the caller gets: what crosses anyway if it has the declared type.
    struct Output {
        int tensor;
        int value;
    };
    std::vector<Output> given;
    for (std::size_t t = 0; t < impl.tensors.size(); ++t) {
        if (value_of[t] >= 0 && impl.tensors[t].producer >= 0) given.push_back({static_cast<int>(t), value_of[t]});
    }
    for (std::size_t k = 0; k < impl.whole.outputs.size(); ++k) {
        const ov::Output<ov::Node> source = impl.base->get_results()[static_cast<std::size_t>(impl.whole.graph_outputs[k])]->input_value(0);
        const int t = impl.tensor_of.at({impl.number_of(source.get_node()), source.get_index()});
        if (impl.tensors[static_cast<std::size_t>(t)].producer < 0) {
            cut.outputs[k] = value_of[static_cast<std::size_t>(t)];
            if (cut.outputs[k] < 0) cant_cut("an output is an input of the graph that is none of the model");
            continue;
        }
        const auto same = std::ranges::find_if(given, [&](const Output& output) {
            return output.tensor == t && infos[static_cast<std::size_t>(output.value)].type == impl.whole.outputs[k].type;
        });
        if (same == given.end()) {
            cut.outputs[k] = add_value(impl.whole.outputs[k]);
            given.push_back({t, cut.outputs[k]});
        } else {
            cut.outputs[k] = same->value;
        }
    }

    for (int s = 0; s < stages; ++s) {
        CutStage& stage = cut.stages[static_cast<std::size_t>(s)];
        try {
            NumberedClone clone(*impl.base, impl.nodes.size());
            ov::ParameterVector parameters;
            std::map<int, std::shared_ptr<ov::op::v0::Parameter>> read;  // by tensor
            std::string members;
            ov::SinkVector sinks;
            const auto add_input = [&](int t, std::shared_ptr<ov::op::v0::Parameter> parameter) {
                read[t] = parameter;
                stage.inputs.push_back(value_of[static_cast<std::size_t>(t)]);
                stage.model.inputs.push_back(infos[static_cast<std::size_t>(stage.inputs.back())]);
                stage.model.graph_inputs.push_back(static_cast<int>(parameters.size()));
                parameters.push_back(std::move(parameter));
            };
            for (std::size_t g = 0; g < impl.groups.size(); ++g) {
                if (stage_of_group[g] != s) continue;
                for (int n : impl.group_nodes[g]) {
                    members += std::to_string(n) + ",";
                    const NodePtr& node = clone.nodes[static_cast<std::size_t>(n)];
                    if (const auto sink = std::dynamic_pointer_cast<ov::op::Sink>(node)) sinks.push_back(sink);
                    for (std::size_t i = 0; i < node->get_input_size(); ++i) {
                        const ov::Output<ov::Node> source = impl.node(n)->input_value(i);
                        const auto found = impl.tensor_of.find({impl.number_of(source.get_node()), source.get_index()});
                        if (found == impl.tensor_of.end() || impl.from_constants[static_cast<std::size_t>(found->first.first)]) continue;
                        const int t = found->second;
                        const int producer = impl.tensors[static_cast<std::size_t>(t)].producer;
                        if (stage_of(producer) == s) continue;
                        if (!read.contains(t)) {
                            if (producer < 0) {
                                add_input(t, ov::as_type_ptr<ov::op::v0::Parameter>(
                                                 clone.nodes[static_cast<std::size_t>(impl.number_of(source.get_node()))]));
                            } else {
                                auto parameter = std::make_shared<ov::op::v0::Parameter>(source.get_element_type(), source.get_partial_shape());
                                parameter->set_friendly_name(infos[static_cast<std::size_t>(value_of[static_cast<std::size_t>(t)])].name);
                                add_input(t, std::move(parameter));
                            }
                        }
                        if (producer >= 0) node->input(i).replace_source_output(read[t]->output(0));
                    }
                }
            }
            ov::ResultVector results;
            for (const Output& output : given) {
                if (stage_of(impl.tensors[static_cast<std::size_t>(output.tensor)].producer) != s) continue;
                const auto [n, port] = impl.tensor_port[static_cast<std::size_t>(output.tensor)];
                stage.outputs.push_back(output.value);
                stage.model.outputs.push_back(infos[static_cast<std::size_t>(output.value)]);
                stage.model.graph_outputs.push_back(static_cast<int>(results.size()));
                results.push_back(std::make_shared<ov::op::v0::Result>(clone.nodes[static_cast<std::size_t>(n)]->output(port)));
                results.back()->set_friendly_name(clone.nodes[static_cast<std::size_t>(n)]->get_friendly_name() + "/cut" + std::to_string(port));
            }
            stage.model.graph = std::make_shared<ov::Model>(results, sinks, parameters, impl.base->get_friendly_name());
            stage.model.name = impl.whole.name + ", stage " + std::to_string(s + 1) + " of " + std::to_string(stages);
            stage.model.content_hash = base::sha256_hex(impl.whole.content_hash + ":" + members);
        } catch (const Error&) {
            throw;
        } catch (const std::exception&) {
            cant_cut(current_refusal());
        }
    }
    return cut;
}

std::vector<Shape> output_shapes(const backend::Model& model, const std::vector<Shape>& input_shapes) {
    const std::shared_ptr<ov::Model> graph = model.graph->clone();
    if (!reshape(*graph, model.graph_inputs, input_shapes)) return {};
    std::vector<Shape> shapes;
    for (int at : model.graph_outputs) {
        const auto& shape = graph->output(static_cast<std::size_t>(at)).get_partial_shape();
        if (shape.is_dynamic()) return {};
        const ov::Shape fixed = shape.to_shape();
        shapes.emplace_back(fixed.begin(), fixed.end());
    }
    return shapes;
}

}  // namespace ai_vmm::graph
