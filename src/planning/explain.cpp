// SPDX-License-Identifier: Apache-2.0
/// A plan as text for people.
#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "planning/figures.hpp"
#include "planning/planner.hpp"

namespace ai_vmm::planning {
namespace {

constexpr std::size_t kLeastWidth = 80;
constexpr std::size_t kLeastReason = 30;  // columns; with fewer, reasons stand below their rows
constexpr std::size_t kMaxName = 40;      // longer names get a line of their own
constexpr std::size_t kLabel = 13;

/// Columns that UTF-8 text takes, near enough: one per code point.
std::size_t columns(std::string_view text) {
    return static_cast<std::size_t>(std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

/// One line: control characters of messages from elsewhere must not break the table.
std::string single_line(std::string_view text) {
    std::string line;
    for (const char c : text) {
        const bool space = static_cast<unsigned char>(c) <= ' ' || c == 0x7f;
        if (!space) line += c;
        if (space && !line.empty() && line.back() != ' ') line += ' ';
    }
    while (!line.empty() && line.back() == ' ') line.pop_back();
    return line;
}

/// Cuts `text` into lines of at most `width` columns at spaces; words that are longer are cut hard.
std::vector<std::string> wrapped(std::string_view text, std::size_t width) {
    std::vector<std::string> lines;
    std::string line;
    std::string word;
    const auto flush = [&] {
        if (word.empty()) return;
        if (!line.empty() && columns(line) + 1 + columns(word) > width) lines.push_back(std::exchange(line, {}));
        line += (line.empty() ? "" : " ") + std::exchange(word, {});
    };
    for (std::size_t i = 0; i < text.size(); ++i) {
        const bool starts = (static_cast<unsigned char>(text[i]) & 0xC0U) != 0x80U;
        if (starts && columns(word) >= width) flush();
        if (text[i] == ' ') {
            flush();
        } else {
            word += text[i];
        }
    }
    flush();
    if (!line.empty() || lines.empty()) lines.push_back(line);
    return lines;
}

std::string padded(std::string_view text, std::size_t width, bool right) {
    const std::size_t used = columns(text);
    const std::string space(used < width ? width - used : 0, ' ');
    return right ? space + std::string(text) : std::string(text) + space;
}

struct Row {
    std::string mark, name, measured, predicted, rate, reason;
};

Row row_of(const Plan& plan, const Verdict& verdict, std::size_t place) {
    Row row;
    const CandidateKey& key = verdict.candidate.key;
    row.name = single_line(key.id());
    row.reason = single_line(verdict.reason);
    row.measured = row.predicted = row.rate = "-";
    if (verdict.candidate.predicted_latency_ms > 0) row.predicted = number(verdict.candidate.predicted_latency_ms);
    if (verdict.outcome && verdict.outcome->latency_ms) row.measured = number(*verdict.outcome->latency_ms);
    if (verdict.outcome && verdict.outcome->throughput_per_s) {
        row.rate = number(*verdict.outcome->throughput_per_s);
    } else if (verdict.outcome && verdict.outcome->latency_ms && *verdict.outcome->latency_ms > 0) {
        row.rate = number(1e3 * key.streams * key.batch / *verdict.outcome->latency_ms);
    }
    if (plan.feasible && place == 0) {
        row.mark = "=>";
    } else if (plan.feasible && place <= plan.fallbacks.size()) {
        row.mark = "f" + std::to_string(place);
    } else {
        row.mark = verdict.admitted ? "ok" : "no";
    }
    return row;
}

void append_table(std::string& text, const std::vector<Row>& rows, std::size_t width) {
    Row head{"", "candidate", "measured", "predicted", "items/s", "why"};
    std::size_t name = head.name.size();
    std::size_t rate = head.rate.size();
    std::size_t measured = head.measured.size();
    for (const Row& row : rows) {
        if (columns(row.name) <= kMaxName) name = std::max(name, columns(row.name));
        rate = std::max(rate, columns(row.rate));
        measured = std::max(measured, columns(row.measured));
    }
    const std::size_t indent = 2 + 3 + name + 1 + measured + 1 + 9 + 1 + rate + 2;
    const bool below = width < indent + kLeastReason;
    const auto append_row = [&](const Row& row) {
        const bool own_line = columns(row.name) > kMaxName;
        text += "  " + padded(row.mark, 3, false);
        if (own_line) {
            const auto lines = wrapped(row.name, width - 5);
            for (std::size_t i = 0; i < lines.size(); ++i) text += (i == 0 ? "" : "     ") + lines[i] + "\n";
            text += "     " + std::string(name, ' ');
        } else {
            text += padded(row.name, name, false);
        }
        text += " " + padded(row.measured, measured, true) + " " + padded(row.predicted, 9, true) + " " + padded(row.rate, rate, true) + "  ";
        if (below) text += "\n";
        if (below && &row == &head) return;
        const auto lines = wrapped(row.reason, below ? width - 7 : width - indent);
        for (std::size_t i = 0; i < lines.size(); ++i)
            text += (below ? std::string(7, ' ') : i == 0 ? "" : std::string(indent, ' ')) + lines[i] + "\n";
    };
    append_row(head);
    for (const Row& row : rows) append_row(row);
}

/// "1  cuda on gpu:0        52 operations, 1.5 MiB in, 4 KiB out: why", one per stage.
void append_stages(std::string& text, const Candidate& candidate, std::size_t width) {
    if (candidate.stages.empty()) return;
    text += "\n  in stages\n";
    std::size_t where = 0;
    for (const PlannedStage& stage : candidate.stages) where = std::max(where, columns(stage.engine + " on " + stage.device));
    int number = 0;
    for (const PlannedStage& stage : candidate.stages) {
        const std::string head = fmt::format("  {:>2} {}  ", ++number, padded(single_line(stage.engine + " on " + stage.device), where, false));
        std::string what = fmt::format("{} operation{}", stage.operations, stage.operations == 1 ? "" : "s");
        if (stage.bytes_in > 0) what += fmt::format(", {} in", kibibytes(stage.bytes_in));
        if (stage.bytes_out > 0) what += fmt::format(", {} out", kibibytes(stage.bytes_out));
        const auto lines = wrapped(what + ": " + single_line(stage.reason), std::max(kLeastReason, width - std::min(width, columns(head))));
        for (std::size_t i = 0; i < lines.size(); ++i) text += (i == 0 ? head : std::string(columns(head), ' ')) + lines[i] + "\n";
    }
}

void trim_line_ends(std::string& text) {
    std::string trimmed;
    trimmed.reserve(text.size());
    for (const char c : text) {
        if (c == '\n') trimmed.erase(trimmed.find_last_not_of(' ') + 1);
        trimmed += c;
    }
    text = std::move(trimmed);
}

}  // namespace

std::string labelled_text(std::string_view label, std::string_view text, int columns) {
    const std::size_t width = std::max(kLeastWidth, static_cast<std::size_t>(std::max(columns, 0)));
    std::string out;
    for (const std::string& line : wrapped(single_line(text), width - kLabel - 2)) {
        out += fmt::format("  {:<{}}{}\n", out.empty() ? label : "", kLabel, line);
    }
    return out;
}

std::string to_text(const Plan& plan, int columns) {
    const std::size_t width = std::max(kLeastWidth, static_cast<std::size_t>(std::max(columns, 0)));
    std::string text;
    const auto append_labelled = [&](std::string& to, std::string_view label, std::string_view value) { to += labelled_text(label, value, columns); };
    if (plan.feasible) {
        text += fmt::format("Plan for {}: {}\n", plan.goal, single_line(plan.chosen.id()));
        append_labelled(text, "promises",
                        fmt::format("{} per execution, {} items/s", milliseconds(plan.promised_latency_ms), number(plan.promised_throughput_per_s)));
        if (!plan.verdicts.empty()) append_labelled(text, "because", plan.verdicts.front().reason);
        std::string fallbacks;
        for (const CandidateKey& key : plan.fallbacks) fallbacks += (fallbacks.empty() ? "" : ", then ") + key.id();
        append_labelled(text, "if it fails", fallbacks.empty() ? "nothing else is feasible" : fallbacks);
        if (!plan.verdicts.empty()) append_stages(text, plan.verdicts.front().candidate, width);
    } else {
        text += fmt::format("No plan for {}\n", plan.goal);
        append_labelled(text, "refused", plan.refusal);
        if (!plan.nearest_offer.empty()) append_labelled(text, "nearest", plan.nearest_offer);
    }
    if (!plan.verdicts.empty()) {
        std::vector<Row> rows;
        for (std::size_t i = 0; i < plan.verdicts.size(); ++i) rows.push_back(row_of(plan, plan.verdicts[i], i));
        if (plan.feasible) rows.front().reason = "chosen";
        text += "\n";
        append_table(text, rows, width);
        text += "\n";
        for (const char* note : {"measured, predicted: ms per execution; t threads, s streams, b batch",
                                 "=> chosen; f1, f2, ..: fallbacks in order; ok: admitted but not needed; no: rejected"}) {
            for (const std::string& line : wrapped(note, width - 2)) text += "  " + line + "\n";
        }
    }
    trim_line_ends(text);
    return text;
}

}  // namespace ai_vmm::planning
