// SPDX-License-Identifier: Apache-2.0
#include "io/file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

namespace ai_vmm::cli {
namespace {

class Descriptor {
public:
    explicit Descriptor(int number, bool owned = true) : number_(number), owned_(owned) {}
    ~Descriptor() {
        if (owned_ && number_ >= 0) ::close(number_);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    [[nodiscard]] int get() const { return number_; }
    int close() {
        const int number = std::exchange(number_, -1);
        return owned_ ? ::close(number) : 0;
    }

private:
    int number_;
    bool owned_;
};

void write_all(int descriptor, std::string_view content, const std::filesystem::path& path) {
    while (!content.empty()) {
        const ssize_t written = ::write(descriptor, content.data(), content.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) throw file_error(errno, "can't write", path);
        content.remove_prefix(static_cast<std::size_t>(written));
    }
}

}  // namespace

Error input_error(std::string message, ErrorDetail detail) {
    return {ErrorCode::invalid_argument, ErrorCategory::input, std::move(message), std::move(detail)};
}

Error damaged(std::string message, ErrorDetail detail) { return {ErrorCode::data_loss, ErrorCategory::input, std::move(message), std::move(detail)}; }

Error file_error(int error_number, std::string_view doing, const std::filesystem::path& path) {
    ErrorCode code = ErrorCode::unknown;
    switch (error_number) {
        case ENOENT:
        case ENOTDIR: code = ErrorCode::not_found; break;
        case EACCES:
        case EPERM:
        case EROFS: code = ErrorCode::permission_denied; break;
        case EISDIR:
        case ENAMETOOLONG:
        case ELOOP: code = ErrorCode::invalid_argument; break;
        case ENOSPC:
        case EDQUOT:
        case EMFILE:
        case ENFILE:
        case ENOMEM:
        case EFBIG: code = ErrorCode::resource_exhausted; break;
        default: break;
    }
    return {code, ErrorCategory::input, fmt::format("{} '{}': {}", doing, path.string(), std::strerror(error_number))};
}

std::string read_input(const std::filesystem::path& path, std::uint64_t limit) {
    const bool standard_input = path == "-";
    const Descriptor file(standard_input ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC), !standard_input);
    if (file.get() < 0) throw file_error(errno, "can't open", path);
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) throw file_error(errno, "can't look at", path);
    if (S_ISDIR(status.st_mode)) {
        throw input_error(fmt::format("'{}' is a directory", path.string()), {.expected = "a file", .found = "a directory", .advice = {}});
    }
    const auto too_large = [&] {
        return Error(ErrorCode::resource_exhausted, ErrorCategory::input, fmt::format("'{}' is too large for an input", path.string()),
                     {.expected = fmt::format("at most {} bytes", limit), .found = {}, .advice = {}});
    };
    std::string content;
    if (S_ISREG(status.st_mode)) {
        if (static_cast<std::uint64_t>(status.st_size) > limit) throw too_large();
        content.reserve(static_cast<std::size_t>(status.st_size));
    }
    constexpr std::size_t kBlock = std::size_t{1} << 20;
    for (;;) {
        const std::size_t before = content.size();
        content.resize(before + kBlock);
        const ssize_t count = ::read(file.get(), content.data() + before, kBlock);
        const int error_number = errno;
        content.resize(before + static_cast<std::size_t>(count > 0 ? count : 0));
        if (count < 0 && error_number == EINTR) continue;
        if (count < 0) throw file_error(error_number, "can't read", path);
        if (count == 0) return content;
        if (content.size() > limit) throw too_large();
    }
}

void write_output(const std::filesystem::path& path, std::string_view content) {
    if (path == "-") {
        std::fflush(stdout);
        write_all(STDOUT_FILENO, content, "standard output");
        return;
    }
    struct stat status {};
    const bool plain = ::stat(path.c_str(), &status) != 0 || S_ISREG(status.st_mode);
    if (!plain) {  // a device or pipe: nothing to replace
        Descriptor file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
        if (file.get() < 0) throw file_error(errno, "can't write", path);
        write_all(file.get(), content, path);
        return;
    }
    std::string temporary = path.string() + ".XXXXXX";
    Descriptor file(::mkostemp(temporary.data(), O_CLOEXEC));
    if (file.get() < 0) throw file_error(errno, "can't write", path);
    try {
        write_all(file.get(), content, path);
        const mode_t mask = ::umask(0);
        ::umask(mask);
        if (::fchmod(file.get(), 0666 & ~mask) != 0 || file.close() != 0 || std::rename(temporary.c_str(), path.c_str()) != 0) {
            throw file_error(errno, "can't write", path);
        }
    } catch (...) {
        ::unlink(temporary.c_str());
        throw;
    }
}

}  // namespace ai_vmm::cli
