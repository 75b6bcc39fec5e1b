/* A disk that fails, for all paths below $FAULT_BELOW, while the file $FAULT_SWITCH is there. Its first word:
 *   full      a write takes half of its bytes, the next ones give ENOSPC
 *   readonly  nothing can be opened for writing, made, renamed, linked or removed: EROFS
 *   broken    a write takes half of its bytes, the next ones give EIO; flushing too
 *   slow      each of these takes 20 ms
 *   lag       a name that another process has given to a file, where none was, is not seen for $FAULT_LAG_MS,
 *             or until this process has changed the folder itself: what a client of NFS keeps in mind.
 *             Whatever is renamed or linked is written to the shared table $FAULT_TABLE.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define ROWS 4096
#define FOLDERS 256

/* A file of the table, by its inode and birth: an inode is used again once its file is removed. */
struct row { unsigned long inode; long long born, when; int pid; };
static struct row *table;
static struct { unsigned long folder; long long when; } seen[FOLDERS];

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static int is_below(const char *path)
{
    const char *below = getenv("FAULT_BELOW");
    return below && path && !strncmp(path, below, strlen(below));
}

static const char *fault(const char *path)
{
    static __thread char word[16];
    const char *lever = getenv("FAULT_SWITCH");
    if (!lever || !is_below(path))
        return "";
    int fd = syscall(SYS_openat, AT_FDCWD, lever, O_RDONLY);
    if (fd < 0)
        return "";
    ssize_t n = syscall(SYS_read, fd, word, sizeof word - 1);
    syscall(SYS_close, fd);
    word[n > 0 ? n : 0] = 0;
    if (!strcmp(word, "slow"))
        usleep(20000);
    return word;
}

static int refuses(const char *path)
{
    if (strcmp(fault(path), "readonly"))
        return 0;
    errno = EROFS;
    return 1;
}

static const char *path_of(int fd)
{
    static __thread char path[PATH_MAX];
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = 0;
    return path;
}

static unsigned long inode_of(const char *path)
{
    struct stat s;
    return syscall(SYS_newfstatat, AT_FDCWD, path, &s, AT_SYMLINK_NOFOLLOW) ? 0 : s.st_ino;
}

static long long born(const char *path)
{
    struct statx s;
    if (syscall(SYS_statx, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_BTIME, &s))
        return 0;
    return s.stx_btime.tv_sec * 1000000000LL + s.stx_btime.tv_nsec;
}

static unsigned long folder_of(const char *path)
{
    char copy[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", path);
    return inode_of(dirname(copy));
}

/* This process has changed a folder: it sees all that is in it from now on. */
static void refresh(const char *path)
{
    if (!is_below(path))
        return;
    unsigned long folder = folder_of(path);
    seen[folder % FOLDERS].folder = folder;
    seen[folder % FOLDERS].when = now();
}

/* Note, before it is done, that a file is given a name: it is hidden from the others when it gets it. */
static void note(const char *file, const char *path)
{
    const char *name = getenv("FAULT_TABLE");
    if (!name || !is_below(path))
        return;
    if (!table) {
        int fd = syscall(SYS_openat, AT_FDCWD, name, O_RDWR);
        if (fd < 0)
            return;
        table = mmap(NULL, ROWS * sizeof *table, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        syscall(SYS_close, fd);
        if (table == MAP_FAILED)
            abort();
    }
    unsigned long inode = inode_of(file);
    struct row *row = &table[inode % ROWS];
    row->pid = getpid(), row->inode = inode, row->born = born(file), row->when = now();
}

static int is_hidden(const char *path)
{
    const char *ms = getenv("FAULT_LAG_MS");
    if (!ms || !is_below(path))
        return 0;
    if (!table)
        note(getenv("FAULT_BELOW"), getenv("FAULT_BELOW")); /* maps it */
    unsigned long inode = inode_of(path);
    struct row *row = table ? &table[inode % ROWS] : NULL;
    if (!inode || !row || row->inode != inode || row->born != born(path))
        return 0;
    if (row->pid == getpid() || now() - row->when > atoi(ms))
        return 0;
    unsigned long folder = folder_of(path);
    if (seen[folder % FOLDERS].folder == folder && seen[folder % FOLDERS].when >= row->when)
        return 0;
    errno = ENOENT;
    return 1;
}

static int opens(int at, const char *path, int flags, mode_t mode)
{
    if (flags & (O_WRONLY | O_RDWR | O_CREAT) && refuses(path))
        return -1;
    if (!(flags & O_CREAT) && is_hidden(path))
        return -1;
    int made = flags & O_CREAT && is_below(path) && !inode_of(path);
    int fd = syscall(SYS_openat, at, path, flags, mode);
    if (fd >= 0 && made)
        refresh(path);
    return fd;
}

static mode_t mode_of(int flags, va_list rest)
{
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
}

#define OPEN(name)                                       \
    int name(const char *path, int flags, ...)           \
    {                                                    \
        va_list rest;                                    \
        va_start(rest, flags);                           \
        mode_t mode = mode_of(flags, rest);              \
        va_end(rest);                                    \
        return opens(AT_FDCWD, path, flags, mode);       \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                     \
    int name(int at, const char *path, int flags, ...)   \
    {                                                    \
        va_list rest;                                    \
        va_start(rest, flags);                           \
        mode_t mode = mode_of(flags, rest);              \
        va_end(rest);                                    \
        return opens(at, path, flags, mode);             \
    }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int fd, const void *data, size_t size)
{
    static int fails;
    const char *kind = fd > 2 ? fault(path_of(fd)) : "";
    int error = !strcmp(kind, "full") ? ENOSPC : !strcmp(kind, "broken") ? EIO : 0;
    if (!error) {
        fails = 0;
        return syscall(SYS_write, fd, data, size);
    }
    if (fails++ == 0 && size > 1)
        return syscall(SYS_write, fd, data, size / 2);
    errno = error;
    return -1;
}

int fsync(int fd)
{
    if (!strcmp(fault(path_of(fd)), "broken")) {
        errno = EIO;
        return -1;
    }
    return syscall(SYS_fsync, fd);
}

static int changed(const char *path, int result)
{
    if (result == 0)
        refresh(path);
    return result;
}

int rename(const char *from, const char *to)
{
    if (refuses(to))
        return -1;
    if (!inode_of(to))
        note(from, to);
    return changed(to, syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}

int link(const char *from, const char *to)
{
    if (refuses(to))
        return -1;
    note(from, to);
    return changed(to, syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0));
}

int linkat(int a, const char *from, int b, const char *to, int flags)
{
    if (refuses(to))
        return -1;
    note(from, to);
    return changed(to, syscall(SYS_linkat, a, from, b, to, flags));
}

int unlink(const char *path)
{
    if (refuses(path))
        return -1;
    return changed(path, syscall(SYS_unlinkat, AT_FDCWD, path, 0));
}

int mkdir(const char *path, mode_t mode)
{
    if (refuses(path))
        return -1;
    return changed(path, syscall(SYS_mkdirat, AT_FDCWD, path, mode));
}

#define STAT(name, kind)                                                      \
    int name(const char *path, struct kind *s)                                \
    {                                                                         \
        return is_hidden(path) ? -1 : REAL(name)(path, s);                    \
    }
STAT(stat, stat)
STAT(stat64, stat64)
STAT(lstat, stat)
STAT(lstat64, stat64)

int fstatat64(int at, const char *path, struct stat64 *s, int flags)
{
    return is_hidden(path) ? -1 : REAL(fstatat64)(at, path, s, flags);
}

int fstatat(int at, const char *path, struct stat *s, int flags)
{
    return is_hidden(path) ? -1 : REAL(fstatat)(at, path, s, flags);
}
