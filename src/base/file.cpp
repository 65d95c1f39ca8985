// SPDX-License-Identifier: Apache-2.0
#include "base/file.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <system_error>
#include <vector>

#include "base/memory.hpp"

namespace ai_vmm::base {
namespace {

class Descriptor {
public:
    Descriptor(const std::filesystem::path& path, int flags, mode_t mode = 0) : fd_(::open(path.c_str(), flags | O_CLOEXEC, mode)) {}
    ~Descriptor() {
        if (fd_ >= 0) ::close(fd_);
    }
    Descriptor(Descriptor&& other) noexcept : fd_(other.release()) {}
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    [[nodiscard]] int get() const noexcept { return fd_; }
    [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }

private:
    int fd_;
};

Descriptor open_regular(const std::filesystem::path& path, std::size_t& size) {
    Descriptor file(path, O_RDONLY | O_NONBLOCK);
    if (file.get() < 0) throw system_error(errno, "can't open", path);
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) throw system_error(errno, "can't inspect", path);
    if (!S_ISREG(status.st_mode)) {
        throw Error(ErrorCode::invalid_argument, ErrorCategory::input, "not a regular file: " + path.string(),
                    {.expected = "a regular file",
                     .found = S_ISDIR(status.st_mode) ? "a directory" : "a special file",
                     .advice = S_ISDIR(status.st_mode) ? "name a file in it" : "write what it gives into a file, and name that"});
    }
    size = static_cast<std::size_t>(status.st_size);
    return file;
}

std::size_t read_up_to(int fd, char* out, std::size_t count, const std::filesystem::path& path) {
    std::size_t done = 0;
    while (done < count) {
        const ssize_t n = ::read(fd, out + done, count - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) throw system_error(errno, "can't read", path);
        if (n == 0) break;
        done += static_cast<std::size_t>(n);
    }
    return done;
}

}  // namespace

Error system_error(int error_number, std::string_view doing, const std::filesystem::path& path) {
    ErrorCode code = ErrorCode::unknown;
    std::string expected, found, advice;
    switch (error_number) {
        case ENOENT:
        case ENOTDIR:
            code = ErrorCode::not_found;
            expected = "a path that exists";
            found = error_number == ENOENT ? "nothing at this path" : "a file where the path names a folder";
            advice = "check the path";
            break;
        case EACCES:
        case EPERM:
        case EROFS:
            code = ErrorCode::permission_denied;
            advice = "check the permissions of the file and its folder";
            break;
        case ENOSPC:
        case EDQUOT:
            code = ErrorCode::resource_exhausted;
            advice = "free disk space";
            break;
        case EMFILE:
        case ENFILE:
            code = ErrorCode::resource_exhausted;
            advice = "raise the limit of open files";
            break;
        case ENOMEM: code = ErrorCode::resource_exhausted; break;
        case ELOOP:
            code = ErrorCode::invalid_argument;
            expected = "a path that leads to a file or folder";
            found = "symbolic links that lead to one another";
            advice = "look with ls -l where they lead, and name the file itself";
            break;
        case ENAMETOOLONG:
            code = ErrorCode::invalid_argument;
            expected = "a path that the file system takes";
            found = "a name that is too long";
            advice = "check the path, or use a shorter one";
            break;
        default: break;
    }
    std::string message(doing);
    message.append(" ").append(path.string()).append(": ").append(std::generic_category().message(error_number));
    return Error(code, ErrorCategory::system, std::move(message),
                 {.expected = std::move(expected), .found = std::move(found), .advice = std::move(advice)});
}

namespace {

void refuse_larger(std::size_t size, std::size_t limit_bytes, const std::filesystem::path& path) {
    if (size <= limit_bytes) return;
    throw Error(ErrorCode::resource_exhausted, ErrorCategory::input, "file too large: " + path.string(),
                {.expected = "at most " + std::to_string(limit_bytes) + " bytes", .found = std::to_string(size) + " bytes", .advice = {}});
}

[[nodiscard]] Error shrank(const std::filesystem::path& path) {
    return Error(ErrorCode::data_loss, ErrorCategory::system, "file shrank while it was read: " + path.string());
}

}  // namespace

RandomAccessFile::RandomAccessFile(const std::filesystem::path& path, std::size_t limit_bytes) : path_(path) {
    Descriptor file = open_regular(path, size_);
    refuse_larger(size_, limit_bytes, path);
    descriptor_ = file.release();
}

RandomAccessFile::~RandomAccessFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

void RandomAccessFile::read(std::size_t offset, std::span<std::byte> into) const {
    while (!into.empty()) {
        const ssize_t n = ::pread(descriptor_, into.data(), into.size(), static_cast<off_t>(offset));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) throw system_error(errno, "can't read", path_);
        if (n == 0) throw shrank(path_);
        offset += static_cast<std::size_t>(n);
        into = into.subspan(static_cast<std::size_t>(n));
    }
}

std::string read_file(const std::filesystem::path& path, std::size_t limit_bytes) {
    std::size_t size = 0;
    const Descriptor file = open_regular(path, size);
    refuse_larger(size, limit_bytes, path);
    std::string content = zeros(size);
    if (read_up_to(file.get(), content.data(), size, path) != size) throw shrank(path);
    return content;
}

std::string read_prefix(const std::filesystem::path& path, std::size_t count) {
    std::size_t size = 0;
    const Descriptor file = open_regular(path, size);
    std::string content(std::min(size, count), '\0');
    content.resize(read_up_to(file.get(), content.data(), content.size(), path));
    return content;
}

void for_each_block(const std::filesystem::path& path, const std::function<void(std::span<const std::byte>)>& visit, std::size_t begin,
                    std::size_t most) {
    std::size_t size = 0;
    const Descriptor file = open_regular(path, size);
    if (begin != 0 && ::lseek(file.get(), static_cast<off_t>(begin), SEEK_SET) < 0) throw system_error(errno, "can't read", path);
    std::vector<char> block(std::clamp<std::size_t>(std::min(size, most), 1, std::size_t{1} << 20));
    while (most > 0) {
        const std::size_t wanted = std::min(block.size(), most);
        const std::size_t n = read_up_to(file.get(), block.data(), wanted, path);
        if (n == 0) return;
        visit({reinterpret_cast<const std::byte*>(block.data()), n});
        if (n < wanted) return;
        most -= n;
    }
}

void write_file(const std::filesystem::path& path, std::span<const std::byte> content) {
    Descriptor file(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file.get() < 0) throw system_error(errno, "can't create", path);
    std::size_t done = 0;
    while (done < content.size()) {
        const ssize_t n = ::write(file.get(), content.data() + done, content.size() - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) throw system_error(errno, "can't write", path);
        done += static_cast<std::size_t>(n);
    }
    if (::close(file.release()) != 0) throw system_error(errno, "can't close", path);
}

TemporaryDirectory::TemporaryDirectory(std::string_view prefix) {
    std::error_code error;
    std::filesystem::path base = std::filesystem::temp_directory_path(error);
    if (error) base = "/tmp";
    std::string pattern = (base / (std::string(prefix) + ".XXXXXX")).string();
    if (::mkdtemp(pattern.data()) == nullptr) throw system_error(errno, "can't create a temporary folder in", base);
    path_ = pattern;
}

TemporaryDirectory::~TemporaryDirectory() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
}

std::filesystem::path library_directory(const void* address) {
    Dl_info info{};
    if (::dladdr(address, &info) == 0 || info.dli_fname == nullptr) return {};
    std::error_code error;
    std::filesystem::path path = std::filesystem::canonical(info.dli_fname, error);
    return error ? std::filesystem::path(info.dli_fname).parent_path() : path.parent_path();
}

}  // namespace ai_vmm::base
