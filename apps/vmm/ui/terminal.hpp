// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ai_vmm::cli {

enum class ColourMode : std::uint8_t { automatic, always, never };

/// What the two output streams are. `width` is 0 where lines must not be cut (not a terminal).
struct Terminal {
    bool out_is_terminal = false;
    bool err_is_terminal = false;
    bool out_colour = false;
    bool err_colour = false;
    int width = 0;

    /// Looks at the streams, NO_COLOR, TERM and COLUMNS.
    [[nodiscard]] static Terminal detect(ColourMode mode);
};

enum class Tone : std::uint8_t { plain, bold, dim, good, warning, bad, accent };

/// `text` in that tone if `colour`, else as it is.
[[nodiscard]] std::string paint(std::string_view text, Tone tone, bool colour);

/// Columns that UTF-8 text takes on a terminal.
[[nodiscard]] std::size_t display_width(std::string_view text);
/// The text with control characters (terminal escapes in names of a model file) and invalid UTF-8 made visible.
[[nodiscard]] std::string printable(std::string_view text);
/// At most `width` columns, the end replaced by "…".
[[nodiscard]] std::string elide(std::string_view text, std::size_t width);
/// Lines of at most `width` columns, broken between words.
[[nodiscard]] std::vector<std::string> wrap(std::string_view text, std::size_t width);

/// "12.3 MiB"
[[nodiscard]] std::string format_bytes(std::int64_t bytes);
/// "4.1 G", "230 k"; the unit is the caller's.
[[nodiscard]] std::string format_count(double count);
/// Four significant digits at most, no exponent where a person would write none.
[[nodiscard]] std::string format_number(double value);
/// "12 µs", "3.42 ms", "1.2 s"
[[nodiscard]] std::string format_ms(double milliseconds);

/// Aligned columns; headers are dim; the widest columns marked elastic shrink until the table fits.
class Table {
public:
    enum class Align : std::uint8_t { left, right };
    struct Cell {
        std::string text;
        Tone tone = Tone::plain;
        Cell(std::string text_, Tone tone_ = Tone::plain) : text(std::move(text_)), tone(tone_) {}
        Cell(const char* text_) : text(text_) {}
        Cell(std::string_view text_) : text(text_) {}
    };

    Table& column(std::string header, Align align = Align::left, bool elastic = false);
    void row(std::vector<Cell> cells);
    [[nodiscard]] bool empty() const noexcept { return rows_.empty(); }
    /// @param width   columns of the terminal; 0: as wide as it gets
    /// @param indent  blanks before each line
    [[nodiscard]] std::string render(int width, bool colour, std::size_t indent = 0) const;

private:
    struct Column {
        std::string header;
        Align align;
        bool elastic;
    };
    std::vector<Column> columns_;
    std::vector<std::vector<Cell>> rows_;
};

/// A bar on standard error that redraws one line; writes nothing where that is no terminal. Not thread-safe.
class ProgressBar {
public:
    explicit ProgressBar(const Terminal& terminal, bool enabled = true) : terminal_(terminal), enabled_(enabled && terminal.err_is_terminal) {}
    ~ProgressBar() { clear(); }
    ProgressBar(const ProgressBar&) = delete;
    ProgressBar& operator=(const ProgressBar&) = delete;

    /// Draws, at most every 40 ms unless the stage changes. @param fraction 0 to 1
    void update(std::string_view stage, double fraction);
    /// Removes the line.
    void clear();

private:
    Terminal terminal_;
    bool enabled_;
    bool drawn_ = false;
    std::string stage_;
    std::chrono::steady_clock::time_point last_;
};

}  // namespace ai_vmm::cli
