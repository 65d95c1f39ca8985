// SPDX-License-Identifier: Apache-2.0
#include "lower/suppression.hpp"

#include <algorithm>

#include "lower/text.hpp"

namespace ai_vmm::cuda {

std::string Suppression::of_row() const {
    return fmt::format("const idx n = row / (idx){0}, c = row % (idx){0}, list = {1}; (void)n; (void)c; ", classes, list_per_class ? "row" : "n");
}

std::string Suppression::of_candidate() const {
    return fmt::format("const idx list = (idx)(t / {0}ll), i = (idx)(t % {0}ll); ", candidates) +
           (list_per_class ? fmt::format("const idx n = list / (idx){0}, c = list % (idx){0}; (void)n; (void)c; ", classes)
                           : std::string("const idx n = list; (void)n; "));
}

std::vector<std::pair<Type, Dims>> suppression_results(const Suppression& what) {
    return {{Type::u32, {what.lists(), what.candidates, 5}},
            {Type::u8, {what.rows(), what.candidates}},
            {Type::i32, {what.rows(), what.candidates}},
            {Type::i32, {what.rows()}}};
}

std::string suppression_functions() {
    return R"SOURCE(
FUNCTION f32 @_overlap(const f32* a, const f32* b, f32 offset) {
    f32 width, height, both;
    if (b[0] > a[2] || b[2] < a[0] || b[1] > a[3] || b[3] < a[1]) return 0;
    width = (a[2] < b[2] ? a[2] : b[2]) - (a[0] > b[0] ? a[0] : b[0]) + offset;
    height = (a[3] < b[3] ? a[3] : b[3]) - (a[1] > b[1] ? a[1] : b[1]) + offset;
    if (width <= 0 || height <= 0) return 0;
    both = timesf(width, height);
    return both / (a[4] + b[4] - both);
}
)SOURCE";
}

std::string store_box(const std::string& area) {
    return fmt::format(
        "out1(f32_bits(x0), list, i, 0); out1(f32_bits(y0), list, i, 1); out1(f32_bits(x1), list, i, 2); out1(f32_bits(y1), list, i, 3); "
        "out1(f32_bits({}), list, i, 4);",
        area);
}

std::string load_box(const std::string& name, const std::string& at) {
    return fmt::format(
        "const f32 {0}[5] = {{bits_f32(get1(list, {1}, 0)), bits_f32(get1(list, {1}, 1)), bits_f32(get1(list, {1}, 2)), bits_f32(get1(list, {1}, "
        "3)), "
        "bits_f32(get1(list, {1}, 4))}}; ",
        name, at);
}

/// The best that is left is chosen; all threads look which others it takes out of play.
Custom::Phase suppress(const Suppression& what) {
    std::string body = "const idx row = (idx)t; " + what.of_row();
    body += fmt::format("for (idx i = THREAD; i < (idx){}; i += BLOCK) out2({}, row, i); BARRIER(); i32 count = 0; ", what.candidates, what.absent);
    body += fmt::format("for (idx i = 0; i < (idx){} && count < {}; ++i) {{ if (get2(row, i) != 0) continue; {}", what.candidates,
                        std::min(what.most, what.candidates), load_box("best", "i"));
    body += fmt::format(
        "if (THREAD == 0) out3((i32)i, row, (idx)count); ++count; for (idx e = i + 1 + THREAD; e < (idx){}; e += BLOCK) {{ if (get2(row, e) != 0) "
        "continue; {}if (@_overlap(other, best, {}) > {}) out2(1, row, e); }} BARRIER(); }} ",
        what.candidates, load_box("other", "e"), literal(Type::f32, what.offset), literal(Type::f32, what.threshold));
    body += "if (THREAD == 0) out4(count, row);";
    return {what.rows(), body, true};
}

std::string rank_among_classes(const Suppression& what, const std::string& score, const std::string& number) {
    const auto of = [](const std::string& text, const char* list, const char* at) {
        return fmt::format(fmt::runtime(text), fmt::arg("list", list), fmt::arg("at", at));
    };
    std::string body =
        fmt::format("const idx row = (idx)(t / {0}ll), r = (idx)(t % {0}ll); {1}if (r >= (idx)get4(row)) return; ", what.candidates, what.of_row());
    body += fmt::format("const idx at = (idx)get3(row, r); const f32 x = {}; const i32 own = {}; idx rank = r; ", of(score, "list", "at"),
                        of(number, "list", "at"));
    // Each class has its best first: halving tells how many of them are better.
    body += fmt::format(
        "for (idx q = 0; q < (idx){0}; ++q) {{ if (q == c) continue; const idx there = n * (idx){0} + q, others = {1}; (void)others; idx low = 0, "
        "top = (idx)get4(there); while (low < top) {{ const idx m = (low + top) / 2, e = (idx)get3(there, m); const f32 y = {2}; const i32 another = "
        "{3}; if (y > x || (y == x && (another < own || (another == own && q < c)))) low = m + 1; else top = m; }} rank += low; }} ",
        what.classes, what.list_per_class ? "there" : "n", of(score, "others", "e"), of(number, "others", "e"));
    return body;
}

}  // namespace ai_vmm::cuda
