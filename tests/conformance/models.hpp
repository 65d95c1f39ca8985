// SPDX-License-Identifier: Apache-2.0
/// Small models that the tests of the interface share.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "suite.hpp"

namespace ai_vmm::conformance {

/// y = 2 x + 1, f32, of the given shape.
[[nodiscard]] backend::Model affine_model(const ov::PartialShape& shape);
/// What affine_model() answers.
[[nodiscard]] Array affine(const Array& x);
/// x [side, side] times a constant matrix, `depth` times over; every product keeps the scale.
[[nodiscard]] backend::Model deep_model(std::int64_t side, int depth);
/// Adds 1 to x [1] `trips` times, in a Loop.
[[nodiscard]] backend::Model loop_model(std::int64_t trips);
/// Keeps the running sum of x [1] in a variable and gives it out.
[[nodiscard]] backend::Model stateful_model();
/// Holds an operator that no engine knows.
[[nodiscard]] backend::Model unknown_operator_model();

/// Compiled, with one request.
struct Running {
    backend::Model model;
    std::unique_ptr<backend::Executable> executable;
    std::unique_ptr<backend::Request> request;

    /// Runs once with fresh outputs.
    [[nodiscard]] std::vector<Tensor> run(const std::vector<Tensor>& inputs) const;
};
[[nodiscard]] Running start(const Subject& subject, backend::Model model);

/// Fails unless `found` is `expected`, for backends that compute; for others only the type is looked at.
void require_f32(const Subject& subject, const Tensor& found, const Array& expected, const std::string& what);

[[nodiscard]] inline Tensor f32(const Array& array) { return to_tensor(array, ElementType::f32); }

}  // namespace ai_vmm::conformance
