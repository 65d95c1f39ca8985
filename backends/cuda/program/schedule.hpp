// SPDX-License-Identifier: Apache-2.0
/// From a device graph to an order of kernels and library calls over planned memory. A value: printed by `vmm plan --dump`, tested without a GPU.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "codegen/kernels.hpp"
#include "device/device.hpp"
#include "graph/graph.hpp"
#include "program/memory_plan.hpp"

namespace ai_vmm::cuda {

using CallSpec = std::variant<MatmulSpec, ConvolutionSpec, AttentionSpec, RecurrentSpec>;

/// One thing to do. `arguments` are values whose addresses are passed in order.
struct Step {
    enum class Kind : std::uint8_t { kernel, library, host };
    Kind kind = Kind::kernel;
    int index = 0;  ///< kernel: into Schedule::kernels; library, host: of the node
    Launch launch;
    std::vector<ValueId> arguments;
    std::string label;
};

struct Schedule {
    Graph graph;                                          ///< with the copies that libraries needed
    Places places;                                        ///< per value; none: lives inside kernels alone
    std::vector<std::string> kernels;                     ///< distinct texts; `@` stands for the name
    std::vector<Step> prepare;                            ///< run once: what depends on constants alone
    std::vector<Step> steps;                              ///< run every time
    std::vector<ValueId> weights;                         ///< constants that `steps` reads
    std::vector<ValueId> preparation_weights;             ///< constants that `prepare` alone reads
    std::vector<ValueId> prepared;                        ///< roots that `prepare` writes and `steps` reads
    std::map<ValueId, std::int64_t> arena_offsets;        ///< of every root that lives in the arena, inputs and outputs included
    std::map<ValueId, std::int64_t> preparation_offsets;  ///< of roots needed during `prepare` alone
    std::int64_t arena_bytes = 0;
    std::int64_t preparation_bytes = 0;
    std::int64_t weight_bytes = 0;                      ///< of `weights` and `prepared`
    std::int64_t preparation_weight_bytes = 0;          ///< of `preparation_weights`
    std::int64_t workspace_bytes = 0;                   ///< the most that a library call needs
    std::map<int, std::shared_ptr<LibraryCall>> calls;  ///< per node
    std::map<int, CallSpec> specs;                      ///< what the calls were made of; may have more
    [[nodiscard]] bool has_host_steps() const;
};

/// @param device  asked for library calls and capabilities
/// @throws Error(internal) a library failed; Error(resource_exhausted).
[[nodiscard]] Schedule make_schedule(Graph graph, Device& device);

/// What is done in which order, with shapes and places: for people and golden files.
[[nodiscard]] std::string print(const Schedule& schedule);

/// The module's source and the kernels' names in it, in the order of Schedule::kernels. A kernel's name follows from its text, so that the same
/// kernel is the same part of every module.
struct ModuleSource {
    std::string text;
    std::vector<std::string> names;
};
[[nodiscard]] ModuleSource module_source(const Schedule& schedule);

}  // namespace ai_vmm::cuda
