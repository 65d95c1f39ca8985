// SPDX-License-Identifier: Apache-2.0
/// Runs every case of tests/planning. UPDATE_GOLDEN=1 writes the expectations anew; look at the difference before committing it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "unit/planning/plan_file.hpp"

namespace ai_vmm::planning {
namespace {

const std::filesystem::path kFolder = std::filesystem::path(AI_VMM_SOURCE_DIR) / "tests" / "planning";

std::vector<std::string> case_names() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(kFolder)) {
        if (entry.path().extension() == ".txt") names.push_back(entry.path().stem().string());
    }
    std::ranges::sort(names);
    return names;
}

std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    return lines;
}

/// Lines that only one has, in order: enough of a diff for texts of this size.
std::string difference(const std::string& expected, const std::string& actual) {
    const auto a = lines_of(expected);
    const auto b = lines_of(actual);
    std::string text;
    std::size_t j = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        const auto same = std::find(b.begin() + static_cast<std::ptrdiff_t>(j), b.end(), a[i]);
        if (same == b.end()) {
            text += "- " + a[i] + "\n";
            continue;
        }
        for (; b.begin() + static_cast<std::ptrdiff_t>(j) != same; ++j) text += "+ " + b[j] + "\n";
        ++j;
    }
    for (; j < b.size(); ++j) text += "+ " + b[j] + "\n";
    return text;
}

class PlanFiles : public testing::TestWithParam<std::string> {};

TEST_P(PlanFiles, ExplanationIsAsWritten) {
    const auto path = kFolder / (GetParam() + ".txt");
    const PlanFile file = PlanFileReader::read(path);
    const std::string actual = explain(file);
    if (std::getenv("UPDATE_GOLDEN") != nullptr) {
        std::ofstream(path) << file.input << "[expected]\n" << actual;
        return;
    }
    EXPECT_TRUE(actual == file.expected) << difference(file.expected, actual)
                                         << "to accept: UPDATE_GOLDEN=1 build/bin/test_planning --gtest_filter='*PlanFiles*/" << GetParam() << "'";
}

TEST(PlanFilesFolder, HasCases) { EXPECT_GE(case_names().size(), 25U); }

INSTANTIATE_TEST_SUITE_P(Cases, PlanFiles, testing::ValuesIn(case_names()), [](const testing::TestParamInfo<std::string>& one) { return one.param; });

}  // namespace
}  // namespace ai_vmm::planning
