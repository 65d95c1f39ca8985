// SPDX-License-Identifier: Apache-2.0
/// Cuts a model into sub-models that run one after the other.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ai_vmm/backend/backend.hpp"

namespace ai_vmm::graph {

/// Operations that are placed together. What is derived from constants alone is in none: every sub-model that reads it has a copy.
struct CutGroup {
    std::vector<std::string> nodes;   ///< names of its operations, in execution order
    std::vector<std::string> copied;  ///< names of what is derived from constants and read here
    bool open_shape = false;          ///< an output has a shape that only the values of inputs tell
};

/// What one group computes and others, or the caller, read.
struct CutTensor {
    int producer = -1;           ///< group, or -1: an input of the model
    std::vector<int> consumers;  ///< groups, ascending
    bool output = false;         ///< of the model
    std::int64_t bytes = 0;      ///< at the typical shapes; 0 if even those don't tell
    bool open_shape = false;
};

/// A sub-model and where its tensors come from and go to, as numbers of values (Cut).
struct CutStage {
    backend::Model model;
    std::vector<int> inputs;   ///< per model.inputs
    std::vector<int> outputs;  ///< per model.outputs
};

/// A model in stages. Values are what passes between them and the caller.
struct Cut {
    int values = 0;
    std::vector<int> inputs;   ///< per input of the whole model: its value, or -1 if no stage and no output reads it
    std::vector<int> outputs;  ///< per output
    std::vector<CutStage> stages;
};

/// A model seen as groups that may be placed apart. Equal models give equal groups in equal order, so a placement can be kept as numbers.
class Cutter {
public:
    /// @param typical_shapes  per Model::inputs, as CompileConfig has them; empty: unknown
    /// @throws Error(unimplemented) the model can't be cut: it has no graph, or inputs with defaults.
    explicit Cutter(const backend::Model& model, const std::vector<Shape>& typical_shapes = {});
    ~Cutter();

    [[nodiscard]] const std::vector<CutGroup>& groups() const noexcept;  ///< in an order in which they can run
    [[nodiscard]] const std::vector<CutTensor>& tensors() const noexcept;

    /// @param stage_of_group  a stage for each group, from 0; no group reads what a later stage computes, and no stage is empty
    /// @throws Error(unimplemented) a tensor whose element type is not known would cross; Error(internal) not such a placement.
    [[nodiscard]] Cut cut(const std::vector<int>& stage_of_group) const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// The shapes of a stage's outputs if its inputs have these shapes; an empty list where they depend on values.
[[nodiscard]] std::vector<Shape> output_shapes(const backend::Model& model, const std::vector<Shape>& input_shapes);

}  // namespace ai_vmm::graph
