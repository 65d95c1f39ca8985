// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <unistd.h>
#include <zip.h>

#include "support.hpp"

namespace ai_vmm::graph::testing {
namespace {

using namespace std::string_literals;

class Locate : public ::testing::Test {
protected:
    base::TemporaryDirectory folder_{"ai_vmm_test"};
    fs::path at(const std::string& name) const { return folder_.path() / name; }
};

/// A zip file with empty entries of these names.
void write_zip(const fs::path& path, const std::vector<std::string>& names) {
    int code = 0;
    zip_t* archive = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &code);
    ASSERT_NE(archive, nullptr);
    for (const auto& name : names) zip_file_add(archive, name.c_str(), zip_source_buffer(archive, "", 0, 0), 0);
    ASSERT_EQ(zip_close(archive), 0);
}

constexpr const char* kEmptyIr = "<?xml version=\"1.0\"?>\n<!-- made by a test -->\n<net name=\"m\" version=\"11\"><layers/><edges/></net>";

TEST_F(Locate, RecognisesByContentWhateverTheName) {
    const std::vector<std::pair<std::string, ModelFormat>> cases = {
        {onnx_add(), ModelFormat::onnx},         {frozen_graph(), ModelFormat::tensorflow_frozen},
        {paddle_program(), ModelFormat::paddle}, {gguf_file(), ModelFormat::gguf},
        {kEmptyIr, ModelFormat::openvino_ir},    {"\x1c\0\0\0TFL3 and so on"s, ModelFormat::tflite},
    };
    for (const auto& [content, format] : cases) {
        const Located found = locate(write(at("some.name.txt"), content));
        EXPECT_EQ(found.format, format);
        EXPECT_EQ(found.name, "some.name");
        EXPECT_EQ(found.size_bytes, static_cast<std::int64_t>(content.size()));
        EXPECT_EQ(found.files, std::vector<fs::path>{at("some.name.txt")});
        const Located memory = locate(ModelSource::from_bytes(content));
        EXPECT_EQ(memory.format, format);
        EXPECT_EQ(memory.content_hash, found.content_hash);
        EXPECT_TRUE(memory.path.empty());
    }
}

TEST_F(Locate, TellsPyTorchFilesApart) {
    write_zip(at("a"), {"m/data.pkl", "m/code/__torch__.py", "m/constants.pkl", "m/version"});
    EXPECT_EQ(locate(at("a")).format, ModelFormat::torchscript);
    write_zip(at("b"), {"m/archive_format", "m/models/model.json", "m/data/weights/weight_0"});
    EXPECT_EQ(locate(at("b")).format, ModelFormat::torch_export);
    write_zip(at("c"), {"serialized_exported_program.json", "serialized_state_dict.pt", "version"});
    EXPECT_EQ(locate(at("c")).format, ModelFormat::torch_export);
    write_zip(at("d"), {"m/data.pkl", "m/data/0", "m/version", "m/byteorder"});
    const auto error = error_reading(at("d"));
    EXPECT_ERROR(error, ErrorCode::invalid_argument, "state dictionary");
    EXPECT_NE(error->advice().find("torch.export"), std::string::npos);
    write_zip(at("e"), {"config.json", "metadata.json", "model.weights.h5"});
    EXPECT_ERROR(error_reading(at("e")), ErrorCode::invalid_argument, "Keras");
    write_zip(at("f"), {"x.npy"});
    EXPECT_ERROR(error_reading(at("f")), ErrorCode::invalid_argument, "NumPy");
    write_zip(at("g"), {"readme"});
    EXPECT_ERROR(error_reading(at("g")), ErrorCode::invalid_argument, "zip archive");
}

TEST_F(Locate, RefusesWhatIsNoModelAndSaysWhatItIs) {
    const std::vector<std::pair<std::string, std::string>> cases = {
        {"", "empty"},
        {"TFL3", "too short"},
        {"hello\n", "too short"},
        {"\x89HDF\r\n\x1a\n....."s, "HDF5"},
        {"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."s, "torch.save()"},
        {"\x80\x04\x95.........."s, "pickle"},
        {"\x10\0\0\0\0\0\0\0{\"a\": 1}       "s, "safetensors"},
        {"{\"a\": [1, 2]}", "JSON"},
        {"{\"base_code\":{\"magic\":\"pir\",\"version\":1}}", "PIR"},
        {"<!DOCTYPE html><html></html>", "XML or HTML"},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "text"},
        {"\x1f\x8b\x08....", "archive"},
        {"\x89PNG\r\n", "image"},
        {"\xff\xfe\x01\x02\x03\x00\x99"s, "unknown binary"},
    };
    for (const auto& [content, says] : cases) {
        const auto error = error_of([&] { static_cast<void>(locate(write(at("file.onnx"), content))); });
        EXPECT_ERROR(error, ErrorCode::invalid_argument, says);
        if (error) {
            EXPECT_FALSE(error->advice().empty());
            EXPECT_NE(error->expected().find("ONNX"), std::string::npos);
        }
        EXPECT_ERROR(error_of([&] { static_cast<void>(locate(ModelSource::from_bytes(content))); }), ErrorCode::invalid_argument, says);
    }
}

TEST_F(Locate, MissingForbiddenAndSpecialFiles) {
    EXPECT_ERROR(error_reading(at("nothing")), ErrorCode::not_found, "no such file");
    EXPECT_ERROR(error_reading(write(at("file"), "x") / "below"), ErrorCode::not_found, "below");
    EXPECT_ERROR(error_reading(""), ErrorCode::invalid_argument, "no model");
    EXPECT_ERROR(error_reading("/dev/zero"), ErrorCode::invalid_argument, "regular file");
    EXPECT_ERROR(error_reading("a\0b"s), ErrorCode::invalid_argument, "null character");
    if (::geteuid() != 0) {
        fs::permissions(write(at("secret"), onnx_add()), fs::perms::none);
        EXPECT_ERROR(error_reading(at("secret")), ErrorCode::permission_denied, "secret");
    }
    write(at("real"), onnx_add());
    fs::create_symlink(at("real"), at("link"));
    EXPECT_EQ(locate(at("link")).format, ModelFormat::onnx);
    fs::create_symlink(at("gone"), at("dangling"));
    EXPECT_ERROR(error_reading(at("dangling")), ErrorCode::not_found, "dangling");
}

TEST_F(Locate, HashFollowsContentsAndRolesNotNames) {
    const std::string hash = locate(write(at("a.onnx"), onnx_add())).content_hash;
    EXPECT_EQ(hash.size(), 64U);
    EXPECT_EQ(locate(write(at("b/other.bin"), onnx_add())).content_hash, hash);
    std::string changed = onnx_add();
    changed += message([](auto& model) { model.add_string(6, "doc"); });
    EXPECT_NE(locate(write(at("a.onnx"), changed)).content_hash, hash);
}

TEST_F(Locate, Directories) {
    EXPECT_ERROR(error_reading(folder_.path()), ErrorCode::invalid_argument, "without a model");
    write(at("one/README.md"), "text");
    write(at("one/net.bin"), onnx_add());
    const Located one = locate(at("one"));
    EXPECT_EQ(one.format, ModelFormat::onnx);
    EXPECT_EQ(one.path, at("one/net.bin"));
    EXPECT_EQ(one.name, "one");
    EXPECT_EQ(locate(at("one/")).name, "one");
    EXPECT_EQ(one.content_hash, locate(at("one/net.bin")).content_hash);
    write(at("one/second"), frozen_graph());
    const auto two = error_reading(at("one"));
    EXPECT_ERROR(two, ErrorCode::invalid_argument, "2 models");
    EXPECT_NE(two->found().find("net.bin (an ONNX model)"), std::string::npos);
    EXPECT_NE(two->found().find("second (a frozen TensorFlow graph)"), std::string::npos);

    write(at("hf/config.json"), R"({"model_type": "bert", "architectures": ["BertModel"]})");
    EXPECT_ERROR(error_reading(at("hf")), ErrorCode::invalid_argument, "without its weights");
    write(at("hf/model.safetensors"), "\x02\0\0\0\0\0\0\0{}"s);
    write(at("hf/README.md"), "not part of the model");
    const Located hf = locate(at("hf"));
    EXPECT_EQ(hf.format, ModelFormat::huggingface);
    EXPECT_EQ(hf.path, at("hf"));
    EXPECT_EQ(hf.files, (std::vector<fs::path>{at("hf/config.json"), at("hf/model.safetensors")}));
    write(at("hf/README.md"), "changed");
    EXPECT_EQ(locate(at("hf")).content_hash, hf.content_hash);
    write(at("hf/config.json"), R"({"model_type": "bert", "architectures": ["BertForMaskedLM"]})");
    EXPECT_NE(locate(at("hf")).content_hash, hf.content_hash);

    const std::string saved = message([](auto& model) {
        model.add_int64(1, 1);
        model.add_message(2, message([](auto& meta) { meta.add_message(2, std::string()); }));
    });
    write(at("tf/saved_model.pb"), saved);
    write(at("tf/variables/variables.index"), "x");
    const Located tf = locate(at("tf"));
    EXPECT_EQ(tf.format, ModelFormat::tensorflow_saved_model);
    EXPECT_EQ(tf.files.size(), 2U);
    EXPECT_EQ(locate(at("tf/saved_model.pb")).content_hash, tf.content_hash);
    EXPECT_EQ(locate(at("tf/saved_model.pb")).path, at("tf"));
}

TEST_F(Locate, WeightsOfIr) {
    const std::string xml =
        R"(<net name="m" version="11"><layers><layer type="Const"><data element_type="f32" shape="4" offset="16" size="16"/></layer></layers></net>)";
    write(at("m.xml"), xml);
    EXPECT_ERROR(error_of([&] { static_cast<void>(locate(at("m.xml"))); }), ErrorCode::not_found, "m.bin with at least 32 bytes");
    write(at("m.bin"), std::string(31, '\0'));
    EXPECT_ERROR(error_of([&] { static_cast<void>(locate(at("m.xml"))); }), ErrorCode::data_loss, "truncated");
    write(at("m.bin"), std::string(32, '\0'));
    const Located found = locate(at("m.xml"));
    EXPECT_EQ(found.files, (std::vector<fs::path>{at("m.bin"), at("m.xml")}));
    write(at("n.xml"), xml);
    write(at("n.bin"), std::string(32, '\0'));
    EXPECT_EQ(locate(at("n.xml")).content_hash, found.content_hash);
    write(at("n.bin"), std::string(31, '\0') + "x");
    EXPECT_NE(locate(at("n.xml")).content_hash, found.content_hash);
    EXPECT_ERROR(error_of([&] { static_cast<void>(locate(ModelSource::from_bytes(xml))); }), ErrorCode::invalid_argument, "lacks its weights");
}

// --- external data of ONNX ---------------------------------------------------------------------------------------------------------------

std::string with_external(const std::string& location, std::int64_t offset = 0, std::int64_t length = 8) {
    return onnx_model({.nodes = {onnx_node("Add", {"x", "b"}, {"y"})},
                       .initializers = {onnx_tensor("b", {2}, {}, location, offset, length)},
                       .inputs = {onnx_value("x", 1, Dims{2})},
                       .outputs = {onnx_value("y", 1, Dims{2})}});
}

TEST_F(Locate, ExternalDataBelongsToTheModel) {
    const float values[] = {0, 0, 3, 4};
    write(at("m.onnx"), with_external("sub/weights.data", 8, 8));
    EXPECT_ERROR(error_reading(at("m.onnx")), ErrorCode::not_found, "tensor 'b'");
    write(at("sub/weights.data"), std::string_view(reinterpret_cast<const char*>(values), sizeof values));
    const Located found = locate(at("m.onnx"));
    EXPECT_EQ(found.files.size(), 2U);
    EXPECT_NE(read_model(found).graph, nullptr);
    write(at("sub/weights.data"), std::string(16, 'x'));
    EXPECT_NE(locate(at("m.onnx")).content_hash, found.content_hash);
    write(at("sub/weights.data"), std::string(15, 'x'));
    EXPECT_ERROR(error_reading(at("m.onnx")), ErrorCode::data_loss, "16 bytes");
    EXPECT_ERROR(error_reading(ModelSource::from_bytes(with_external("sub/weights.data", 8, 8))), ErrorCode::invalid_argument, "other files");
}

TEST_F(Locate, ExternalDataStaysInTheFolder) {
    write(at("secret"), std::string(64, 's'));
    fs::create_directories(at("model"));
    fs::create_symlink(at("secret"), at("model/link"));
    for (const std::string& location : {at("secret").string(), "../secret"s, "sub/../../secret"s, "./../secret"s, "link"s, "."s}) {
        const auto error = error_reading(write(at("model/m.onnx"), with_external(location)));
        SCOPED_TRACE("location '" + location + "'");
        EXPECT_ERROR(error, ErrorCode::invalid_argument, "tensor 'b'");
    }
    EXPECT_ERROR(error_reading(write(at("model/m.onnx"), with_external("a\0b"s))), ErrorCode::invalid_argument, "null");
    EXPECT_ERROR(error_reading(write(at("model/m.onnx"), with_external("secret2", INT64_MAX, INT64_MAX))), ErrorCode::not_found, "secret2");
    write(at("model/secret2"), "1234");
    EXPECT_ERROR(error_reading(write(at("model/m.onnx"), with_external("secret2", INT64_MAX, INT64_MAX))), ErrorCode::data_loss, "beyond");
}

}  // namespace
}  // namespace ai_vmm::graph::testing
