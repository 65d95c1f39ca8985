// SPDX-License-Identifier: Apache-2.0
#include "io/inputs.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "io/file.hpp"
#include "io/npy.hpp"
#include "io/values.hpp"

namespace ai_vmm::cli {
namespace {

class InputsTest : public ::testing::Test {
protected:
    void SetUp() override {
        std::string name = (std::filesystem::temp_directory_path() / "vmm_inputs_XXXXXX").string();
        ASSERT_NE(::mkdtemp(name.data()), nullptr);
        folder_ = name;
    }
    void TearDown() override { std::filesystem::remove_all(folder_); }
    std::string write(const std::string& name, const std::string& content) {
        const std::string path = (folder_ / name).string();
        write_output(path, content);
        return path;
    }
    std::filesystem::path folder_;
    const std::vector<TensorInfo> two_{{.name = "a", .type = ElementType::f32, .shape = {1, 2}},
                                       {.name = "b=c", .type = ElementType::i64, .shape = {-1}}};
};

ErrorCode code_of(std::span<const TensorInfo> infos, const InputOptions& options) {
    try {
        static_cast<void>(gather_inputs(infos, options));
    } catch (const Error& error) {
        return error.code();
    }
    return ErrorCode::ok;
}

TEST_F(InputsTest, NamesFilesAndNumbers) {
    const std::string file = write("a.npy", format_npy(Tensor::from<double>({2}, {1.5, 2})));
    const Inputs inputs = gather_inputs(two_, {.given = {"b=c=1,2,3", "a=" + file}});
    ASSERT_EQ(inputs.tensors.size(), 2U);
    EXPECT_EQ(inputs.tensors.begin()->first, "a");
    EXPECT_EQ(inputs.tensors["a"].shape(), (Shape{1, 2}));
    EXPECT_EQ(inputs.tensors["a"].as<float>()[0], 1.5F);
    EXPECT_EQ(inputs.tensors["b=c"].shape(), (Shape{3}));
    ASSERT_EQ(inputs.notes.size(), 1U);  // f64 became f32
}

TEST_F(InputsTest, AnArchiveFillsInputsByName) {
    TensorMap arrays;
    arrays.push_back("b=c", Tensor::from<std::int64_t>({1}, {7}));
    arrays.push_back("a", Tensor::from<float>({1, 2}, {1, 2}));
    const std::string file = write("all.npz", format_npz(arrays));
    EXPECT_EQ(gather_inputs(two_, {.given = {file}}).tensors["b=c"].as<std::int64_t>()[0], 7);
    EXPECT_EQ(gather_inputs(two_, {.given = {"a=" + file, "b=c=1"}}).tensors["a"].as<float>()[1], 2);
    arrays.push_back("other", Tensor::from<float>({1}, {1}));
    EXPECT_EQ(code_of(two_, {.given = {write("more.npz", format_npz(arrays))}}), ErrorCode::invalid_argument);
}

TEST_F(InputsTest, RefusesWhatDoesNotFit) {
    const std::string text = write("notes.txt", "hello\n");
    const std::string wide = write("wide.npy", format_npy(Tensor::from<float>({3}, {1, 2, 3})));
    EXPECT_EQ(code_of(two_, {.given = {"a=1,2"}}), ErrorCode::invalid_argument);                    // b=c is missing
    EXPECT_EQ(code_of(two_, {.given = {"a=1,2", "a=1,2", "b=c=1"}}), ErrorCode::invalid_argument);  // twice
    EXPECT_EQ(code_of(two_, {.given = {"x=1", "a=1,2", "b=c=1"}}), ErrorCode::invalid_argument);    // unknown
    EXPECT_EQ(code_of(two_, {.given = {"a=" + text, "b=c=1"}}), ErrorCode::invalid_argument);
    EXPECT_EQ(code_of(two_, {.given = {"a=" + wide, "b=c=1"}}), ErrorCode::invalid_argument);
    EXPECT_EQ(code_of(two_, {.given = {wide}}), ErrorCode::invalid_argument);  // which input?
    EXPECT_EQ(code_of(two_, {.given = {"a=missing.npy", "b=c=1"}}), ErrorCode::not_found);
    EXPECT_EQ(code_of(two_, {.given = {"a=@missing", "b=c=1"}}), ErrorCode::not_found);
    EXPECT_EQ(code_of(two_, {.given = {"a=" + folder_.string(), "b=c=1"}}), ErrorCode::invalid_argument);
}

TEST_F(InputsTest, WhatIsGeneratedLaterIsNotMissing) {
    const Inputs inputs = gather_inputs(two_, {.given = {"b=c=1"}, .random = true});
    ASSERT_EQ(inputs.tensors.size(), 1U);
    EXPECT_NE(inputs.tensors.find("b=c"), nullptr);
}

TEST_F(InputsTest, FilesAreReplacedWhole) {
    const std::string path = write("x", "old");
    write_output(path, "new");
    EXPECT_EQ(read_input(path), "new");
    EXPECT_THROW(write_output(folder_ / "missing" / "x", "new"), Error);
    EXPECT_THROW(static_cast<void>(read_input(path, 2)), Error);
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

TEST(ParseShape, TextForms) {
    EXPECT_EQ(parse_shape("x=1x3x224x224").second, (Shape{1, 3, 224, 224}));
    EXPECT_EQ(parse_shape("a=b=[1,2]").first, "a=b");
    EXPECT_EQ(parse_shape("x=").second, Shape{});
    for (const char* text : {"", "x", "=1", "x=1x", "x=a", "x=-1", "x=1 2", "x=99999999999999999999", "x=4294967296x4294967296"}) {
        EXPECT_THROW(static_cast<void>(parse_shape(text)), Error) << text;
    }
}

}  // namespace
}  // namespace ai_vmm::cli
