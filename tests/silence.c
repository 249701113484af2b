/* SPDX-License-Identifier: MIT */
/* Linked into every test program with --wrap=write: the library's only way to write is write(2)
 * (see symbols.sh for the rest), and it must never reach standard output or standard error. */
#include <stdlib.h>
#include <unistd.h>

ssize_t __real_write(int fd, const void *data, size_t size_bytes);
ssize_t __wrap_write(int fd, const void *data, size_t size_bytes);

ssize_t __wrap_write(int fd, const void *data, size_t size_bytes)
{
    if (fd == STDOUT_FILENO || fd == STDERR_FILENO) abort();
    return __real_write(fd, data, size_bytes);
}
