// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "ai_vmm/tensor.hpp"

namespace ai_vmm::node_test {

struct NamedTensor {
    std::string name;
    Tensor tensor;
};

struct DataSet {
    std::vector<NamedTensor> inputs;
    std::vector<NamedTensor> outputs;  ///< expected
};

/// One ONNX node test as export_cases.py wrote it, its tensors still in their files.
class Case {
public:
    std::string name;
    double rtol = 0;
    double atol = 0;

    /// The content of model.onnx.
    /// @throws std::runtime_error the file can't be read.
    [[nodiscard]] std::string model() const;
    /// Reads every data set.
    /// @throws std::runtime_error a file is missing or has another size than its tensor.
    [[nodiscard]] std::vector<DataSet> data_sets() const;

private:
    friend std::vector<Case> read_cases(const std::filesystem::path& folder);
    struct Entry {
        std::string name;
        ElementType type;
        Shape shape;
        std::vector<std::string> strings;
    };
    struct Entries {
        std::vector<Entry> inputs;
        std::vector<Entry> outputs;
    };
    [[nodiscard]] static std::vector<NamedTensor> read(const std::vector<Entry>& entries, const std::filesystem::path& prefix);

    std::filesystem::path folder_;
    std::vector<Entries> sets_;
};

/// Reads `folder`/cases.json.
/// @throws std::runtime_error, nlohmann::json::exception it is missing or malformed.
[[nodiscard]] std::vector<Case> read_cases(const std::filesystem::path& folder);

/// Empty if the tensors are equal by the rule of onnx.backend.test, else what differs: shapes, element types, then |actual - expected| <= atol + rtol
/// * |expected| in f64, where NaN equals NaN and infinities equal themselves; strings exactly.
[[nodiscard]] std::string compare(const Tensor& actual, const Tensor& expected, double rtol, double atol);

}  // namespace ai_vmm::node_test
