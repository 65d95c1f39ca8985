// SPDX-License-Identifier: Apache-2.0
#include "convert.hpp"

#include <algorithm>
#include <array>
#include <new>
#include <utility>

#include "openvino/runtime/exception.hpp"

namespace ai_vmm::openvino {
namespace {

using ov::element::Type_t;

constexpr std::array<std::pair<ElementType, Type_t>, 22> kTypes{{
    {ElementType::boolean, Type_t::boolean}, {ElementType::bf16, Type_t::bf16},     {ElementType::f16, Type_t::f16},
    {ElementType::f32, Type_t::f32},         {ElementType::f64, Type_t::f64},       {ElementType::f8e4m3, Type_t::f8e4m3},
    {ElementType::f8e5m2, Type_t::f8e5m2},   {ElementType::f8e8m0, Type_t::f8e8m0}, {ElementType::f4e2m1, Type_t::f4e2m1},
    {ElementType::nf4, Type_t::nf4},         {ElementType::i4, Type_t::i4},         {ElementType::i8, Type_t::i8},
    {ElementType::i16, Type_t::i16},         {ElementType::i32, Type_t::i32},       {ElementType::i64, Type_t::i64},
    {ElementType::u2, Type_t::u2},           {ElementType::u4, Type_t::u4},         {ElementType::u8, Type_t::u8},
    {ElementType::u16, Type_t::u16},         {ElementType::u32, Type_t::u32},       {ElementType::u64, Type_t::u64},
    {ElementType::string, Type_t::string},
}};

bool contains(std::string_view text, std::string_view part) {
    const auto same = [](char a, char b) { return (a >= 'A' && a <= 'Z' ? char(a + 32) : a) == b; };
    return std::search(text.begin(), text.end(), part.begin(), part.end(), same) != text.end();
}

template <std::size_t N>
bool contains_any(std::string_view text, const std::array<std::string_view, N>& parts) {
    return std::ranges::any_of(parts, [&](std::string_view part) { return contains(text, part); });
}

constexpr std::array<std::string_view, 5> kNoMemory{"bad_alloc", "out of gpu resources", "out of memory", "failed to allocate", "cl_out_of_"};
constexpr std::array<std::string_view, 13> kUnsupported{
    "unsupported",   "not supported",  "doesn't support",     "does not support", "not implemented", "incorrect number of input",
    "unimplemented", "notimplemented", "cannot be converted", "don't support",    "do not support",  "only support",
    "no primitive"};
constexpr std::array<std::string_view, 8> kBadValues{"shape",        "dimension", "incompatible", "out of bound",
                                                     "out of range", "broadcast", "axis",         "index"};

std::string_view doing(Phase phase) noexcept {
    switch (phase) {
        case Phase::query: return "OpenVINO could not say what it supports";
        case Phase::compile: return "OpenVINO could not compile the model";
        case Phase::import_blob: return "OpenVINO could not import the compiled model";
        case Phase::export_blob: return "OpenVINO could not export the compiled model";
        case Phase::create_request: return "OpenVINO could not make a request";
        case Phase::run: return "OpenVINO could not run the model";
    }
    return "OpenVINO failed";
}

ErrorCode code_of(Phase phase, std::string_view message) {
    if (contains_any(message, kNoMemory)) return ErrorCode::resource_exhausted;
    if (phase == Phase::run) return contains_any(message, kBadValues) ? ErrorCode::invalid_argument : ErrorCode::internal;
    if (phase == Phase::import_blob) return ErrorCode::data_loss;
    if (contains_any(message, kUnsupported)) return ErrorCode::unimplemented;
    return ErrorCode::internal;
}

/// The length of a prefix "path/file.cpp:123" (or .hpp, .h, .cc), else 0.
std::size_t source_location_length(std::string_view text) {
    std::size_t end = 0;
    while (end < text.size() && text[end] != ' ' && text[end] != '\n') ++end;
    const std::string_view word = text.substr(0, end);
    for (const std::string_view extension : {".cpp:", ".hpp:", ".h:", ".cc:"}) {
        const std::size_t at = word.find(extension);
        if (at == std::string_view::npos) continue;
        std::size_t last = at + extension.size();
        while (last < word.size() && word[last] >= '0' && word[last] <= '9') ++last;
        if (last < word.size() && word[last] == ':') ++last;
        return last;
    }
    return 0;
}

}  // namespace

std::optional<ov::element::Type> to_openvino(ElementType type) noexcept {
    const auto found = std::ranges::find(kTypes, type, &std::pair<ElementType, Type_t>::first);
    if (found == kTypes.end()) return std::nullopt;
    return ov::element::Type(found->second);
}

std::optional<ElementType> from_openvino(ov::element::Type type) noexcept {
    const auto found = std::ranges::find(kTypes, Type_t(type), &std::pair<ElementType, Type_t>::second);
    if (found == kTypes.end()) return std::nullopt;
    return found->first;
}

ov::element::Type precision_type(Precision precision) {
    switch (precision) {
        case Precision::f32: return ov::element::f32;
        case Precision::bf16: return ov::element::bf16;
        case Precision::f16: return ov::element::f16;
        case Precision::automatic: break;
    }
    throw Error(ErrorCode::invalid_argument, ErrorCategory::compilation, "a backend needs a definite precision",
                {.expected = "f32, bf16 or f16", .found = std::string(to_string(precision)), .advice = {}});
}

Shape from_openvino(const ov::Shape& shape) { return {shape.begin(), shape.end()}; }

bool equal(const Shape& left, const ov::Shape& right) noexcept {
    return std::ranges::equal(left, right, [](std::int64_t a, std::size_t b) { return a == static_cast<std::int64_t>(b); });
}

void assign(ov::Shape& to, const Shape& from) { to.assign(from.begin(), from.end()); }

std::string clean_message(std::string_view message) {
    std::string text;
    text.reserve(message.size());
    const auto put = [&](char c) {
        if (c == '\n' || c == '\t' || c == '\r') c = ' ';
        if (c == ' ' && (text.empty() || text.back() == ' ')) return;
        text += c;
    };
    for (std::size_t i = 0; i < message.size();) {
        const std::string_view rest = message.substr(i);
        bool dropped = false;
        for (const std::string_view lead : {"Exception from ", "failed at ", ""}) {
            if (!rest.starts_with(lead)) continue;
            if (lead.empty() && i > 0 && message[i - 1] != ' ' && message[i - 1] != '\n') break;
            const std::size_t length = source_location_length(rest.substr(lead.size()));
            if (length == 0) continue;
            if (lead == "failed at ") text += "failed:";
            i += lead.size() + length;
            dropped = true;
            break;
        }
        if (!dropped) put(message[i++]);
    }
    while (!text.empty() && (text.back() == ' ' || text.back() == '\n')) text.pop_back();
    // "Check 'false' failed:" says nothing.
    for (const std::string_view noise : {"Check 'false' failed:", "Exception:"}) {
        if (text.starts_with(noise)) text.erase(0, noise.size());
    }
    while (!text.empty() && text.front() == ' ') text.erase(0, 1);
    return text;
}

void rethrow_as_error(Phase phase) {
    const ErrorCategory category = phase == Phase::run ? ErrorCategory::runtime : ErrorCategory::compilation;
    try {
        throw;
    } catch (const Error&) {
        throw;
    } catch (const ov::Cancelled&) {
        throw Error(ErrorCode::cancelled, ErrorCategory::runtime, "the execution was cancelled");
    } catch (const ov::Busy&) {
        throw Error(ErrorCode::failed_precondition, ErrorCategory::runtime, "the request is running already",
                    {.expected = "one run() at a time", .found = {}, .advice = "make a request per thread"});
    } catch (const std::bad_alloc&) {
        throw Error(ErrorCode::resource_exhausted, ErrorCategory::system, std::string(doing(phase)) + ": no memory");
    } catch (const std::exception& error) {
        const std::string message = clean_message(error.what());
        throw Error(code_of(phase, message), category, std::string(doing(phase)) + ": " + message);
    } catch (...) {
        throw Error(ErrorCode::internal, category, std::string(doing(phase)) + ": an exception of unknown type");
    }
}

}  // namespace ai_vmm::openvino
