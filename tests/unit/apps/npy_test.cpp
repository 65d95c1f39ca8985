// SPDX-License-Identifier: Apache-2.0
#include "io/npy.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "io/values.hpp"

namespace ai_vmm::cli {
namespace {

/// A version 1 file with that dictionary and data.
std::string npy(const std::string& dictionary, const std::string& data, char major = 1) {
    std::string file = std::string("\x93NUMPY") + major + '\0';
    for (int i = 0; i < (major == 1 ? 2 : 4); ++i) file += static_cast<char>(dictionary.size() >> 8 * i & 0xFF);
    return file + dictionary + data;
}

std::string header(const std::string& descr, const std::string& shape, const std::string& order = "False") {
    return "{'descr': '" + descr + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }\n";
}

ErrorCode code_of(const std::string& content) {
    try {
        static_cast<void>(parse_npy(content, "test"));
    } catch (const Error& error) {
        return error.code();
    }
    return ErrorCode::ok;
}

bool same(const Tensor& a, const Tensor& b) {
    if (a.type() != b.type() || a.shape() != b.shape()) return false;
    if (a.type() == ElementType::string) return std::ranges::equal(a.as<std::string>(), b.as<std::string>());
    return a.size_bytes() == 0 || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

/// Any bits; booleans and strings that are some.
Tensor random_tensor(ElementType type, const Shape& shape, std::uint64_t seed) {
    Tensor tensor(type, shape);
    std::mt19937_64 engine(seed);
    if (type == ElementType::string) {
        for (std::string& text : tensor.as<std::string>()) text = "text " + std::to_string(engine() % 100);
        return tensor;
    }
    auto* bytes = static_cast<std::uint8_t*>(tensor.data());
    for (std::size_t i = 0; i < tensor.size_bytes(); ++i) bytes[i] = static_cast<std::uint8_t>(engine() & (type == ElementType::boolean ? 1U : 255U));
    return tensor;
}

constexpr ElementType kRoundTrip[] = {ElementType::boolean, ElementType::bf16,      ElementType::f16,        ElementType::f32,
                                      ElementType::f64,     ElementType::i8,        ElementType::i16,        ElementType::i32,
                                      ElementType::i64,     ElementType::u8,        ElementType::u16,        ElementType::u32,
                                      ElementType::u64,     ElementType::complex64, ElementType::complex128, ElementType::string};

TEST(Npy, EveryTypeAndRankComesBack) {
    for (const ElementType type : kRoundTrip) {
        for (const Shape& shape : {Shape{}, Shape{0}, Shape{1}, Shape{7}, Shape{2, 3}, Shape{3, 0, 2}, Shape{2, 1, 3, 2}}) {
            const Tensor tensor = random_tensor(type, shape, 7);
            const std::string file = format_npy(tensor);
            const Tensor back = parse_npy(file, "test");
            EXPECT_TRUE(same(tensor, back)) << to_string(type) << to_string(shape);
            EXPECT_EQ((file.size() - (type == ElementType::string ? 0 : tensor.size_bytes())) % 64,
                      type == ElementType::string ? file.size() % 64 : 0U);
        }
    }
}

TEST(Npy, PackedTypesAreOneElementPerByte) {
    for (const ElementType type : {ElementType::i4, ElementType::u4, ElementType::i2, ElementType::u2, ElementType::u1}) {
        const Tensor tensor = cast(Tensor::from<std::int32_t>({3}, {0, 1, type == ElementType::i4 ? -8 : type == ElementType::i2 ? -2 : 1}), type);
        const Tensor back = parse_npy(format_npy(tensor), "test");
        EXPECT_EQ(back.type(), type == ElementType::i4 || type == ElementType::i2 ? ElementType::i8 : ElementType::u8);
        for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(value_at(back, i), value_at(tensor, i)) << to_string(type);
    }
    // What ml_dtypes writes for int4: void bytes, whose meaning the model's input tells.
    const Tensor packed = parse_npy(npy(header("<V1", "(3,)"), std::string("\x01\xff\x08", 3)), "test", ElementType::i4);
    EXPECT_EQ(packed.type(), ElementType::i4);
    EXPECT_EQ(value_at(packed, 0), 1);
    EXPECT_EQ(value_at(packed, 1), -1);
    EXPECT_EQ(value_at(packed, 2), -8);
}

TEST(Npy, BigEndianAndFortranOrder) {
    const Tensor big = parse_npy(npy(header(">i2", "(2,)"), std::string("\x01\x02\xff\xfe", 4)), "test");
    EXPECT_EQ(big.as<std::int16_t>()[0], 0x0102);
    EXPECT_EQ(big.as<std::int16_t>()[1], -2);
    const Tensor fortran = parse_npy(npy(header("|u1", "(2, 3)", "True"), std::string("\0\3\1\4\2\5", 6)), "test");
    for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(fortran.as<std::uint8_t>()[i], i);
    const Tensor complex = parse_npy(npy(header(">c8", "()"), std::string("\x3f\x80\0\0\x40\0\0\0", 8)), "test");
    EXPECT_EQ(text_at(complex, 0), "1+2j");
}

TEST(Npy, StringsAreUtf8) {
    std::string data("a\0\0\0\xac\x20\0\0", 8);  // a, euro sign
    data += std::string("\0\0\0\0\0\0\0\0", 8);
    const Tensor unicode = parse_npy(npy(header("<U2", "(2,)"), data), "test");
    EXPECT_EQ(unicode.as<std::string>()[0], "a\xe2\x82\xac");
    EXPECT_EQ(unicode.as<std::string>()[1], "");
    const Tensor bytes = parse_npy(npy(header("|S3", "(2,)"), std::string("ab\0xyz", 6)), "test");
    EXPECT_EQ(bytes.as<std::string>()[0], "ab");
    EXPECT_EQ(bytes.as<std::string>()[1], "xyz");
    const Tensor mixed = Tensor::from<std::string>({2}, {std::string("\xf0\x9f\x98\x80 long"), std::string("")});
    EXPECT_TRUE(same(mixed, parse_npy(format_npy(mixed), "test")));
    const Tensor no_utf8 = Tensor::from<std::string>({1}, {std::string("\xff\xfe")});
    EXPECT_TRUE(same(no_utf8, parse_npy(format_npy(no_utf8), "test")));
}

TEST(Npy, VersionsTwoAndThree) {
    for (const char major : {char{2}, char{3}}) {
        const Tensor tensor = parse_npy(npy(header("<f4", "(1,)"), std::string("\0\0\x80\x3f", 4), major), "test");
        EXPECT_EQ(tensor.as<float>()[0], 1.0F);
    }
    EXPECT_EQ(code_of(npy(header("<f4", "()"), "abcd", 4)), ErrorCode::unimplemented);
}

TEST(Npy, RefusesWhatItCannotHold) {
    EXPECT_EQ(code_of(npy(header("|O", "(1,)"), "x")), ErrorCode::unimplemented);
    EXPECT_EQ(code_of(npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", "abcd")), ErrorCode::unimplemented);
    EXPECT_EQ(code_of(npy(header("<f16", "(1,)"), std::string(16, 'x'))), ErrorCode::unimplemented);
    EXPECT_EQ(code_of(npy(header("<M8[ns]", "(1,)"), std::string(8, 'x'))), ErrorCode::unimplemented);
    EXPECT_EQ(code_of(npy(header("<V1", "(1,)"), "x")), ErrorCode::unimplemented);
}

TEST(Npy, RefusesMalformedHeaders) {
    const std::string data(64, 'x');
    for (const std::string& dictionary :
         {std::string(""), std::string("{"), std::string("{}"), std::string("{'descr': '<f4'}"), header("<f4", "(1"), header("<f4", "(-1,)"),
          header("<f4", "(3)"), header("<f4", "(1,) + (2,)"), header("<f4", "[1]"), header("f4", "(1,)"), header("<f4", "(1,)", "Maybe"),
          header("<f4", "(99999999999999999999,)"), header("<f4", "(1,)") + "x", std::string("__import__('os')"),
          std::string("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}")}) {
        EXPECT_EQ(code_of(npy(dictionary, data)), ErrorCode::invalid_argument) << dictionary;
    }
    std::string deep = "(";
    for (int i = 0; i < 100; ++i) deep += "1,";
    EXPECT_EQ(code_of(npy(header("<f4", deep + ")"), data)), ErrorCode::invalid_argument);
    EXPECT_EQ(code_of("not an array"), ErrorCode::invalid_argument);
    EXPECT_EQ(code_of(""), ErrorCode::invalid_argument);
}

TEST(Npy, HostileSizesAllocateNothing) {
    EXPECT_EQ(code_of(npy(header("<f4", "(1099511627776,)"), "x")), ErrorCode::data_loss);
    EXPECT_EQ(code_of(npy(header("<f8", "(4294967296, 4294967296)"), "x")), ErrorCode::invalid_argument);
    EXPECT_EQ(code_of(npy(header("<U0", "(4611686018427387904,)"), "")), ErrorCode::data_loss);
    EXPECT_EQ(code_of(npy(header("|S268435456", "(8,)"), "")), ErrorCode::data_loss);
}

TEST(Npy, EveryTruncationIsAnError) {
    const std::string file = format_npy(random_tensor(ElementType::f32, {3, 5}, 1));
    for (std::size_t size = 0; size < file.size(); ++size) {
        const ErrorCode code = code_of(file.substr(0, size));
        EXPECT_TRUE(code == ErrorCode::data_loss || (size < 6 && code == ErrorCode::invalid_argument)) << size << ' ' << to_string(code);
    }
}

TEST(Npy, FlippedBytesGiveATensorOrAnError) {
    std::mt19937 engine(3);
    const std::string original = format_npy(random_tensor(ElementType::string, {2, 3}, 1));
    int refused = 0;
    for (int i = 0; i < 5000; ++i) {
        std::string file = original;
        for (int flips = 0; flips < 1 + i % 3; ++flips) file[engine() % 128] = static_cast<char>(engine());
        try {
            const Tensor tensor = parse_npy(file, "test");
            EXPECT_LE(tensor.element_count(), file.size());
        } catch (const Error&) {
            ++refused;
        }
    }
    EXPECT_GT(refused, 1000);
}

TEST(Npz, ComesBackInOrder) {
    TensorMap tensors;
    tensors.push_back("second/first", Tensor::from<float>({2}, {1, 2}));
    tensors.push_back("a", Tensor::from<std::int64_t>({}, {7}));
    const std::string file = format_npz(tensors);
    EXPECT_TRUE(is_npz(file));
    const TensorMap back = parse_npz(file, "test");
    ASSERT_EQ(back.size(), 2U);
    EXPECT_EQ(back.begin()->first, "second/first");
    EXPECT_TRUE(same(back["a"], tensors["a"]));
    EXPECT_EQ(file, format_npz(tensors));
    EXPECT_EQ(parse_npz(format_npz({}), "test").size(), 0U);
}

TEST(Npz, DamageIsAnErrorOrHarmless) {
    TensorMap tensors;
    tensors.push_back("x", random_tensor(ElementType::f32, {40}, 1));
    tensors.push_back("y", random_tensor(ElementType::i8, {3}, 1));
    const std::string file = format_npz(tensors);
    for (std::size_t size = 0; size < file.size(); ++size) {
        EXPECT_THROW(static_cast<void>(parse_npz(file.substr(0, size), "test")), Error) << size;
    }
    std::mt19937 engine(5);
    int refused = 0;
    for (int i = 0; i < 3000; ++i) {
        std::string damaged = file;
        damaged[engine() % file.size()] ^= static_cast<char>(1U << engine() % 8);
        try {
            const TensorMap back = parse_npz(damaged, "test");
            // The checksum covers the arrays: what is read is what was written.
            for (const auto& [name, tensor] : back) {
                const Tensor* known = tensors.find(name);
                EXPECT_TRUE(known == nullptr || same(tensor, *known));
            }
        } catch (const Error&) {
            ++refused;
        }
    }
    EXPECT_GT(refused, 1500);
}

}  // namespace
}  // namespace ai_vmm::cli
