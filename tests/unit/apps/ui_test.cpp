// SPDX-License-Identifier: Apache-2.0
#include "ui/terminal.hpp"

#include <gtest/gtest.h>

#include "bench/statistics.hpp"

namespace ai_vmm::cli {
namespace {

class Ui : public ::testing::Test {
protected:
    void SetUp() override { static_cast<void>(Terminal::detect(ColourMode::never)); }  // sets the character type of the process
};

TEST_F(Ui, WidthIsInColumns) {
    EXPECT_EQ(display_width("abc"), 3U);
    EXPECT_EQ(display_width("µs…"), 3U);
    EXPECT_EQ(display_width("\xe6\xbc\xa2"), 2U);  // a wide character
    EXPECT_EQ(display_width("e\xcc\x81"), 1U);     // a combining accent
    EXPECT_EQ(elide("abcdef", 4), "abc…");
    EXPECT_EQ(elide("abc", 3), "abc");
    EXPECT_EQ(elide("\xe6\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2", 4), "\xe6\xbc\xa2…");
    EXPECT_EQ(elide("abc", 0), "");
}

TEST_F(Ui, ControlCharactersAreMadeVisible) {
    EXPECT_EQ(printable("a\x1b[31mb\n"), "a\\x1b[31mb\\x0a");
    EXPECT_EQ(printable("\xff\xc3"), "\\xff\\xc3");
    EXPECT_EQ(printable("\xe2\x80\xae"), "\\u202e");  // turns the reading direction
    EXPECT_EQ(printable("naïve µ"), "naïve µ");
}

TEST_F(Ui, TablesFitTheWidth) {
    Table table;
    table.column("NAME", Table::Align::left, true).column("N", Table::Align::right);
    table.row({"a very long name that does not fit", "12345"});
    table.row({"µ", "1"});
    EXPECT_EQ(table.render(20, false), "NAME               N\na very long …  12345\nµ                  1\n");
    for (std::size_t start = 0; const int width : {0, 12, 20, 60}) {
        const std::string text = table.render(width, false);
        for (start = 0; start < text.size();) {
            const std::size_t end = text.find('\n', start);
            EXPECT_TRUE(width == 0 || display_width(text.substr(start, end - start)) <= static_cast<std::size_t>(std::max(width, 13)));
            start = end + 1;
        }
    }
}

TEST_F(Ui, NumbersForPeople) {
    EXPECT_EQ(format_number(0), "0");
    EXPECT_EQ(format_number(12), "12");
    EXPECT_EQ(format_number(1.5), "1.5");
    EXPECT_EQ(format_number(0.12345), "0.1235");
    EXPECT_EQ(format_number(1234.5), "1234");
    EXPECT_EQ(format_bytes(999), "999 B");
    EXPECT_EQ(format_bytes(1536), "1.5 KiB");
    EXPECT_EQ(format_count(25'600'000), "25.6 M");
    EXPECT_EQ(format_ms(0.0125), "12.5 µs");
    EXPECT_EQ(format_ms(3.456), "3.46 ms");
    EXPECT_EQ(format_ms(2500), "2.5 s");
}

TEST_F(Ui, WrapBreaksBetweenWords) {
    EXPECT_EQ(wrap("one two three", 7), (std::vector<std::string>{"one two", "three"}));
    EXPECT_EQ(wrap("one two", 0), (std::vector<std::string>{"one two"}));
    EXPECT_EQ(wrap("unbreakable", 4), (std::vector<std::string>{"unbreakable"}));
}

TEST(Statistics, PercentilesAreSamples) {
    std::vector<double> samples;
    for (int i = 1000; i >= 1; --i) samples.push_back(i);
    const Percentiles result = percentiles(samples);
    EXPECT_EQ(result.count, 1000U);
    EXPECT_EQ(result.p50, 500);
    EXPECT_EQ(result.p90, 900);
    EXPECT_EQ(result.p99, 990);
    EXPECT_EQ(result.p99_9, 999);
    EXPECT_EQ(result.max, 1000);
    EXPECT_DOUBLE_EQ(result.mean, 500.5);
    EXPECT_EQ(percentiles({}).count, 0U);
    EXPECT_EQ(percentiles({3}).p99_9, 3);
    EXPECT_EQ(median({3, 1, 2}), 2);
}

TEST(Statistics, RatiosHaveTheSpreadOfTheirRounds) {
    const Ratio ratio = ratio_of({2, 3, 4}, {1, 2, 1}, 3, 1);
    EXPECT_EQ(ratio.value, 3);
    EXPECT_EQ(ratio.low, 1.5);
    EXPECT_EQ(ratio.high, 4);
    EXPECT_EQ(ratio_of({}, {}, 1, 0).value, 0);
}

}  // namespace
}  // namespace ai_vmm::cli
