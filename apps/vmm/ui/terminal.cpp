// SPDX-License-Identifier: Apache-2.0
#include "ui/terminal.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <clocale>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cwchar>

namespace ai_vmm::cli {
namespace {

constexpr std::string_view kReset = "\x1b[0m";

std::string_view escape_of(Tone tone) {
    switch (tone) {
        case Tone::plain: return "";
        case Tone::bold: return "\x1b[1m";
        case Tone::dim: return "\x1b[2m";
        case Tone::good: return "\x1b[32m";
        case Tone::warning: return "\x1b[33m";
        case Tone::bad: return "\x1b[31m";
        case Tone::accent: return "\x1b[36m";
    }
    return "";
}

/// One code point of UTF-8 text: its bytes and columns; `valid` is false for a byte that starts none.
struct Glyph {
    std::string_view bytes;
    char32_t code = 0;
    int columns = 1;
    bool valid = true;
};

Glyph glyph_at(std::string_view text, std::size_t at) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char first = byte(at);
    const std::size_t length = first < 0x80                    ? 1
                               : first >= 0xC2 && first < 0xE0 ? 2
                               : first >= 0xE0 && first < 0xF0 ? 3
                               : first >= 0xF0 && first < 0xF5 ? 4
                                                               : 0;
    if (length == 0 || at + length > text.size()) return {text.substr(at, 1), 0, 1, false};
    char32_t code = length == 1 ? first : first & (0xFFU >> (length + 1));
    for (std::size_t i = 1; i < length; ++i) {
        if ((byte(at + i) & 0xC0U) != 0x80U) return {text.substr(at, 1), 0, 1, false};
        code = code << 6U | (byte(at + i) & 0x3FU);
    }
    const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
    if (overlong || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return {text.substr(at, 1), 0, 1, false};
    const int columns = code < 0x80 ? 1 : ::wcwidth(static_cast<wchar_t>(code));
    return {text.substr(at, length), code, columns, true};
}

bool environment_set(const char* name) {
    const char* value = std::getenv(name);
    return value != nullptr && *value != '\0';
}

void write_error_stream(std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stderr);
    std::fflush(stderr);
}

}  // namespace

Terminal Terminal::detect(ColourMode mode) {
    // For wcwidth() only; every other category stays "C".
    if (std::setlocale(LC_CTYPE, "C.UTF-8") == nullptr) std::setlocale(LC_CTYPE, "");
    Terminal terminal;
    terminal.out_is_terminal = ::isatty(STDOUT_FILENO) == 1;
    terminal.err_is_terminal = ::isatty(STDERR_FILENO) == 1;
    const char* term = std::getenv("TERM");
    const bool dumb = term == nullptr || std::string_view(term) == "dumb";
    const bool wanted = mode == ColourMode::always || (mode == ColourMode::automatic && !environment_set("NO_COLOR") && !dumb);
    terminal.out_colour = wanted && (terminal.out_is_terminal || mode == ColourMode::always);
    terminal.err_colour = wanted && (terminal.err_is_terminal || mode == ColourMode::always);
    if (terminal.out_is_terminal || terminal.err_is_terminal) {
        winsize size{};
        const int descriptor = terminal.out_is_terminal ? STDOUT_FILENO : STDERR_FILENO;
        int width = ::ioctl(descriptor, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
        if (const char* columns = std::getenv("COLUMNS"); width == 0 && columns != nullptr) width = std::atoi(columns);
        terminal.width = std::max(width > 0 ? width : 80, 20);
        if (!terminal.out_is_terminal) terminal.width = 0;
    }
    return terminal;
}

std::string paint(std::string_view text, Tone tone, bool colour) {
    if (!colour || tone == Tone::plain || text.empty()) return std::string(text);
    return fmt::format("{}{}{}", escape_of(tone), text, kReset);
}

std::size_t display_width(std::string_view text) {
    std::size_t width = 0;
    for (std::size_t at = 0; at < text.size();) {
        const Glyph glyph = glyph_at(text, at);
        width += glyph.columns > 0 ? static_cast<std::size_t>(glyph.columns) : 0;
        at += glyph.bytes.size();
    }
    return width;
}

std::string printable(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (std::size_t at = 0; at < text.size();) {
        const Glyph glyph = glyph_at(text, at);
        const bool control =
            glyph.valid && (glyph.code < 0x20 || (glyph.code >= 0x7F && glyph.code < 0xA0) || glyph.code == 0x2028 || glyph.code == 0x2029 ||
                            (glyph.code >= 0x202A && glyph.code <= 0x202E) || (glyph.code >= 0x2066 && glyph.code <= 0x2069));
        if (!glyph.valid) {
            out += fmt::format("\\x{:02x}", static_cast<unsigned char>(glyph.bytes[0]));
        } else if (control) {
            out += glyph.code < 0x100 ? fmt::format("\\x{:02x}", static_cast<unsigned>(glyph.code))
                                      : fmt::format("\\u{:04x}", static_cast<unsigned>(glyph.code));
        } else {
            out += glyph.bytes;
        }
        at += glyph.bytes.size();
    }
    return out;
}

std::string elide(std::string_view text, std::size_t width) {
    if (display_width(text) <= width) return std::string(text);
    if (width == 0) return {};
    std::string out;
    std::size_t used = 0;
    for (std::size_t at = 0; at < text.size();) {
        const Glyph glyph = glyph_at(text, at);
        const std::size_t columns = glyph.columns > 0 ? static_cast<std::size_t>(glyph.columns) : 0;
        if (used + columns + 1 > width) break;
        out += glyph.bytes;
        used += columns;
        at += glyph.bytes.size();
    }
    return out + "…";
}

std::vector<std::string> wrap(std::string_view text, std::size_t width) {
    std::vector<std::string> lines(1);
    std::size_t used = 0;
    for (std::size_t at = 0; at <= text.size();) {
        const std::size_t end = std::min(text.find(' ', at), text.size());
        const std::string_view word = text.substr(at, end - at);
        const std::size_t columns = display_width(word);
        if (used > 0 && width > 0 && used + 1 + columns > width) {
            lines.emplace_back();
            used = 0;
        }
        if (used > 0) {
            lines.back() += ' ';
            ++used;
        }
        lines.back() += word;
        used += columns;
        at = end + 1;
    }
    return lines;
}

std::string format_bytes(std::int64_t bytes) {
    constexpr std::array kUnits{"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    auto value = static_cast<double>(bytes);
    std::size_t unit = 0;
    while (std::abs(value) >= 1000 && unit + 1 < kUnits.size()) {
        value /= 1024;
        ++unit;
    }
    return fmt::format("{} {}", unit == 0 ? std::to_string(bytes) : format_number(value), kUnits.at(unit));
}

std::string format_count(double count) {
    constexpr std::array kUnits{"", " k", " M", " G", " T", " P"};
    std::size_t unit = 0;
    while (std::abs(count) >= 1000 && unit + 1 < kUnits.size()) {
        count /= 1000;
        ++unit;
    }
    return fmt::format("{}{}", format_number(count), kUnits.at(unit));
}

std::string format_number(double value) {
    if (!std::isfinite(value)) return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
    const double size = std::abs(value);
    if (size != 0 && (size < 1e-4 || size >= 1e9)) return fmt::format("{:.3g}", value);
    if (value == std::round(value)) return fmt::format("{:.0f}", value);
    const int decimals = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : size >= 1 ? 3 : 4;
    std::string text = fmt::format("{:.{}f}", value, decimals);
    if (text.find('.') != std::string::npos) {
        text.erase(text.find_last_not_of('0') + 1);
        if (text.back() == '.') text.pop_back();
    }
    return text;
}

std::string format_ms(double milliseconds) {
    const double size = std::abs(milliseconds);
    if (size >= 1000) return fmt::format("{:.3g} s", milliseconds / 1000);
    if (size >= 1 || size == 0) return fmt::format("{:.3g} ms", milliseconds);
    return fmt::format("{:.3g} µs", milliseconds * 1000);
}

Table& Table::column(std::string header, Align align, bool elastic) {
    columns_.push_back({std::move(header), align, elastic});
    return *this;
}

void Table::row(std::vector<Cell> cells) {
    for (Cell& cell : cells) cell.text = printable(cell.text);
    cells.resize(columns_.size(), Cell(""));
    rows_.push_back(std::move(cells));
}

std::string Table::render(int width, bool colour, std::size_t indent) const {
    constexpr std::size_t kGap = 2;
    constexpr std::size_t kLeast = 6;
    std::vector<std::size_t> widths;
    for (std::size_t c = 0; c < columns_.size(); ++c) {
        std::size_t widest = display_width(columns_[c].header);
        for (const auto& cells : rows_) widest = std::max(widest, display_width(cells[c].text));
        widths.push_back(widest);
    }
    if (width > 0) {
        std::size_t total = indent + kGap * (columns_.empty() ? 0 : columns_.size() - 1);
        for (const std::size_t w : widths) total += w;
        while (total > static_cast<std::size_t>(width)) {
            std::size_t victim = columns_.size();
            for (std::size_t c = 0; c < columns_.size(); ++c) {
                if (columns_[c].elastic && widths[c] > kLeast && (victim == columns_.size() || widths[c] > widths[victim])) victim = c;
            }
            if (victim == columns_.size()) break;
            --widths[victim];
            --total;
        }
    }
    std::string out;
    const auto line = [&](const auto& text_of, const auto& tone_of) {
        std::string row(indent, ' ');
        for (std::size_t c = 0; c < columns_.size(); ++c) {
            const std::string text = elide(text_of(c), widths[c]);
            const std::string blanks(widths[c] - std::min(widths[c], display_width(text)), ' ');
            const std::string painted = paint(text, tone_of(c), colour);
            row += columns_[c].align == Align::right ? blanks + painted : painted + blanks;
            if (c + 1 < columns_.size()) row.append(kGap, ' ');
        }
        row.erase(row.find_last_not_of(' ') + 1);
        out += row + '\n';
    };
    line([&](std::size_t c) { return columns_[c].header; }, [](std::size_t) { return Tone::dim; });
    for (const auto& cells : rows_) {
        line([&](std::size_t c) { return cells[c].text; }, [&](std::size_t c) { return cells[c].tone; });
    }
    return out;
}

void ProgressBar::update(std::string_view stage, double fraction) {
    if (!enabled_) return;
    const auto now = std::chrono::steady_clock::now();
    if (drawn_ && stage == stage_ && now - last_ < std::chrono::milliseconds(40)) return;
    last_ = now;
    stage_ = std::string(stage);
    drawn_ = true;
    constexpr std::size_t kBar = 24;
    const double clamped = std::clamp(std::isfinite(fraction) ? fraction : 0.0, 0.0, 1.0);
    const auto filled = static_cast<std::size_t>(clamped * kBar);
    std::string bar;
    for (std::size_t i = 0; i < kBar; ++i) bar += i < filled ? "━" : "─";
    const std::size_t room = static_cast<std::size_t>(std::max(terminal_.width, 60)) - kBar - 8;
    write_error_stream(
        fmt::format("\r\x1b[K{} {:3.0f}% {}", paint(bar, Tone::accent, terminal_.err_colour), clamped * 100, elide(printable(stage), room)));
}

void ProgressBar::clear() {
    if (!drawn_) return;
    drawn_ = false;
    write_error_stream("\r\x1b[K");
}

}  // namespace ai_vmm::cli
