// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <filesystem>
#include <span>

#include "ai_vmm/error.hpp"
#include "base/file.hpp"
#include "base/hash.hpp"
#include "base/process.hpp"
#include "cuda/host_device.hpp"
#include "cuda/host_prelude.hpp"
#include "driver/prelude.hpp"

namespace ai_vmm::cuda::test {
namespace {

std::string trimmed(std::string text) {
    const auto space = [](unsigned char c) { return std::isspace(c) != 0; };
    while (!text.empty() && space(text.back())) text.pop_back();
    text.erase(text.begin(), std::find_if_not(text.begin(), text.end(), space));
    return text;
}

bool word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

/// "const f32* RESTRICT a" -> "const f32* RESTRICT".
std::string type_of(const std::string& parameter) {
    auto text = trimmed(parameter);
    while (!text.empty() && word(text.back())) text.pop_back();
    return trimmed(text);
}

/// What `list` stands for at `at` if it is the name of a macro.
std::string expanded(const std::string& source, std::string list, std::size_t at) {
    for (int depth = 0; depth < 4; ++depth) {
        list = trimmed(list);
        if (list.empty() || !std::all_of(list.begin(), list.end(), word)) return list;
        const auto mark = "#define " + list + ' ';
        const auto defined = source.rfind(mark, at);
        if (defined == std::string::npos) return list;
        const auto begin = defined + mark.size();
        list = source.substr(begin, source.find('\n', begin) - begin);
    }
    return list;
}

std::vector<std::string> parameter_types(const std::string& list) {
    std::vector<std::string> types;
    std::size_t begin = 0;
    while (begin <= list.size()) {
        const auto end = std::min(list.find(',', begin), list.size());
        if (auto type = type_of(list.substr(begin, end - begin)); !type.empty() && type != "void") types.push_back(type);
        begin = end + 1;
    }
    return types;
}

/// Behind the brace that closes the first one after `at`.
std::size_t body_end(const std::string& source, std::size_t at) {
    int depth = 0;
    for (at = source.find('{', at); at < source.size(); ++at) {
        if (source[at] == '{') ++depth;
        if (source[at] == '}' && --depth == 0) return at + 1;
    }
    return source.size();
}

}  // namespace

std::string host_source(const std::string& source) {
    auto result = std::string(kHostPrelude) + std::string(kConversions);
    constexpr std::string_view kMark = "KERNEL(";
    std::size_t copied = 0;
    for (auto at = source.find(kMark); at != std::string::npos; at = source.find(kMark, copied)) {
        const auto name_end = source.find(')', at);
        const auto open = name_end == std::string::npos ? name_end : source.find('(', name_end);
        const auto close = open == std::string::npos ? open : source.find(')', open);
        if (close == std::string::npos) break;
        const auto name = trimmed(source.substr(at + kMark.size(), name_end - at - kMark.size()));
        const auto types = parameter_types(expanded(source, source.substr(open + 1, close - open - 1), at));
        std::string sizes, arguments;
        for (std::size_t i = 0; i < types.size(); ++i) {
            sizes += "sizeof(" + types[i] + "), ";
            arguments += (i != 0 ? ", *(" : "*(") + types[i] + "*)arguments[" + std::to_string(i) + "]";
        }
        const auto end = body_end(source, close);
        result += source.substr(copied, end - copied);
        copied = end;
        // Here, since macros in the parameters' types may change behind.
        result += "\nconst u64 sizes_" + name + "[] = {" + sizes + "0};\nvoid run_" + name +
                  "(void** arguments, u64 groups) {\n    groups_ = groups;\n    for (group_ = 0; group_ < groups; ++group_) " + name + "(" +
                  arguments + ");\n}\n";
    }
    return result + source.substr(copied);
}

namespace {

/// What the build found, or where that is not on this machine, what is.
const std::string& host_compiler() {
    static const std::string found = [] {
        for (const char* path : {AI_VMM_HOST_C_COMPILER, "/usr/bin/tcc", "/usr/bin/gcc", "/usr/bin/cc"}) {
            if (std::filesystem::exists(path)) return std::string(path);
        }
        return std::string();
    }();
    return found;
}

}  // namespace

std::string host_compiler_missing() { return host_compiler().empty() ? "the reference needs tcc or gcc, and neither is installed" : ""; }

std::string compile_host_library(const std::string& c_source, bool& compiled) {
    namespace fs = std::filesystem;
    std::vector<std::string> command{host_compiler()};
    if (command[0].ends_with("tcc")) {
        command.insert(command.end(), {"-w", "-shared"});
    } else {
        command.insert(command.end(), {"-x", "c", "-std=gnu11", "-O1", "-w", "-shared", "-fPIC", "-fno-math-errno", "-ffp-contract=off", "-fwrapv"});
#if defined(__SANITIZE_ADDRESS__)
        command.emplace_back("-fsanitize=address,undefined");
#endif
    }
    std::string all;
    for (const auto& part : command) all += part + ' ';
    const fs::path folder = AI_VMM_HOST_KERNELS;
    const auto library = folder / (base::sha256_hex(all + c_source).substr(0, 40) + ".so");
    compiled = !fs::exists(library);
    if (!compiled) return library;

    fs::create_directories(folder);
    static std::atomic<unsigned> counter{0};
    const auto stem = library.string() + "." + std::to_string(::getpid()) + "." + std::to_string(counter++);
    const auto source_file = stem + ".c", built = stem + ".so";
    base::write_file(source_file, std::as_bytes(std::span(c_source)));
    command.insert(command.end(), {source_file, "-o", built});
    const auto result = base::run_process({.command = command});
    fs::remove(source_file);
    if (!result.ok()) {
        fs::remove(built);
        throw Error(ErrorCode::internal, ErrorCategory::compilation, "the C compiler refuses a generated module",
                    {.expected = "C that " + command[0] + " takes", .found = result.err.substr(0, 4000), .advice = "report this with the model"});
    }
    fs::rename(built, library);
    return library;
}

}  // namespace ai_vmm::cuda::test
