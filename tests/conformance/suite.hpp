// SPDX-License-Identifier: Apache-2.0
/// The frame of the conformance suite: what a test is, how it fails, and the backend it looks at.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "ai_vmm/backend/backend.hpp"
#include "arrays.hpp"
#include "openvino/core/model.hpp"
#include "openvino/core/node.hpp"
#include "openvino/core/partial_shape.hpp"

namespace ai_vmm::conformance {

/// A backend loaded from a library, as src/hal does it, and the device under test.
struct Subject {
    std::filesystem::path library;
    backend::Backend* backend = nullptr;  ///< lives until the process ends
    DeviceInfo device;
    bool computes = true;  ///< false: outputs have types and shapes but no values (property COMPUTES=NO)

    [[nodiscard]] const DeviceRoute& route() const { return device.routes.front(); }
    [[nodiscard]] bool runs(std::string_view precision) const;
    /// One thread, one stream, f32, on the device under test.
    [[nodiscard]] backend::CompileConfig config() const;
};

/// Loads the library and picks the device of that name; the first one if `device` is empty.
/// @throws Error(unavailable) the library, its entry point or the device can't be had.
[[nodiscard]] Subject load_subject(const std::filesystem::path& library, const std::string& device);

/// Ends a test as failed, or as not applicable to this backend.
struct Failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};
struct Skipped : std::runtime_error {
    using std::runtime_error::runtime_error;
};
/// A refusal by supports(): a skip, unless the expectations say that this backend refuses nothing unlisted.
struct Refused : Skipped {
    using Skipped::Skipped;
};

void require(bool condition, const std::string& message);

struct Test {
    std::string suite;
    std::string name;  ///< with `suite`, the id "suite.name" used by --gtest_filter and by the files of expectations
    std::function<void(const Subject&)> body;
};
using Tests = std::vector<Test>;

/// A model made in code: format unknown, only a graph. Inputs and outputs map one to one.
[[nodiscard]] backend::Model make_model(std::shared_ptr<const ov::Model> graph);

/// An input of an operator test.
struct Feed {
    ElementType type = ElementType::f32;
    Array values;
    ov::PartialShape declared = {};  ///< of the Parameter; empty: the shape of `values`
};

/// A small graph, its inputs, and what must come out.
struct OpCase {
    std::string name;
    std::vector<Feed> feeds;
    std::function<ov::OutputVector(const ov::OutputVector& inputs)> graph;
    /// Gets the inputs as rounded to their types.
    std::function<std::vector<Array>(const std::vector<Array>& inputs)> expected;
    double slack = 1;  ///< widens the tolerance, for long sums and coarse functions
    Precision precision = Precision::f32;
};

/// supports(), compile(), run(), compare; run a second time into the same outputs, compare again.
void run_case(const Subject& subject, const OpCase& test);
/// Adds `test` under suite `suite`.
void add_case(Tests& tests, std::string suite, OpCase test);

/// compile() after supports(); a refusal must be one in both and ends the test as Refused.
[[nodiscard]] std::unique_ptr<backend::Executable> compile_supported(const Subject& subject, const backend::Model& model,
                                                                     const backend::CompileConfig& config);

/// Fails unless `action` throws an Error with one of the codes (any, if none is given). Returns it.
Error require_error(const std::function<void()>& action, const std::vector<ErrorCode>& codes, const std::string& what);

// One function per file of tests.
void add_elementwise_tests(Tests& tests);
void add_matrix_tests(Tests& tests);
void add_movement_tests(Tests& tests);
void add_reduction_tests(Tests& tests);
void add_sequence_tests(Tests& tests);
void add_box_tests(Tests& tests);
void add_type_tests(Tests& tests);
void add_interface_tests(Tests& tests);
void add_output_tests(Tests& tests);
void add_concurrency_tests(Tests& tests);

}  // namespace ai_vmm::conformance
