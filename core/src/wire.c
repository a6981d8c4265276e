/* SPDX-License-Identifier: Apache-2.0 */
#include "wire.h"

#include "error.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 64 };

static const char socket_name[] = "socket";

void cm_wire_put_info(uint8_t *at, const cm_object_info *info)
{
    cm_put_u64(at, info->kind);
    cm_put_u64(at + 8, info->size);
    cm_put_u64(at + 16, info->stored);
}

void cm_wire_get_info(const uint8_t *at, cm_object_info *info)
{
    info->kind = (uint8_t)cm_get_u64(at);
    info->size = cm_get_u64(at + 8);
    info->stored = cm_get_u64(at + 16);
}

/* ---- areas ------------------------------------------------------------------------------------------------------- */

static int map(int fd, size_t size, cm_area *area)
{
    void *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (bytes == MAP_FAILED)
        return cm_fail(errno, "mapping %zu bytes of shared memory failed", size);
    *area = (cm_area){bytes, size};
    return 0;
}

int cm_area_make(size_t size, int *fd, cm_area *area)
{
    int made = memfd_create("chipmink", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int result = 0;
    if (made < 0)
        return cm_fail(errno, "no shared memory for talking to the store server");
    if (ftruncate(made, (off_t)size) < 0 || fcntl(made, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        result = cm_fail(errno, "making %zu bytes of shared memory failed", size);
    if (!result)
        result = map(made, size, area);
    if (result)
        close(made);
    else
        *fd = made;
    return result;
}

int cm_area_map(int fd, size_t most, cm_area *area)
{
    struct stat found;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || !(seals & F_SEAL_SHRINK)) /* shrunk memory would kill whoever reads it */
        return cm_fail(EPROTO, "the other side passed memory that is not sealed");
    if (fstat(fd, &found) < 0)
        return cm_fail(errno, "looking at passed memory failed");
    if (found.st_size <= 0 || (uint64_t)found.st_size > most)
        return cm_fail(EPROTO, "the other side passed memory of %lld bytes", (long long)found.st_size);
    return map(fd, (size_t)found.st_size, area);
}

void cm_area_clear(cm_area *area)
{
    if (area->bytes)
        munmap(area->bytes, area->size);
    *area = (cm_area){0};
}

/* ---- packets ----------------------------------------------------------------------------------------------------- */

static int gone(int error)
{
    return cm_fail(error == EPIPE || error == 0 ? ECONNRESET : error, "the connection to the store server broke");
}

int cm_wire_send(int socket, const cm_buffer *packet, int pass)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec part = {packet->data, packet->size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (packet->error || packet->size > CM_WIRE_PACKET)
        return packet->error
                   ? cm_fail(ENOMEM, "out of memory")
                   : cm_fail(EMSGSIZE, "a message of %zu bytes to the store server is too large", packet->size);
    if (pass >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof pass);
        memcpy(CMSG_DATA(header), &pass, sizeof pass);
    }
    ssize_t sent;
    do
        sent = sendmsg(socket, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? gone(errno) : 0;
}

int cm_wire_receive(int socket, cm_buffer *packet, int *passed)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    *passed = -1;
    cm_buffer_clear(packet);
    uint8_t *at = cm_buffer_extend(packet, CM_WIRE_PACKET);
    if (!at)
        return cm_fail(ENOMEM, "out of memory");
    struct iovec part = {at, CM_WIRE_PACKET};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    ssize_t received;
    do
        received = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    while (received < 0 && errno == EINTR);
    if (received <= 0)
        return gone(received < 0 ? errno : 0);
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header))
        if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
            header->cmsg_len == CMSG_LEN(sizeof *passed))
            memcpy(passed, CMSG_DATA(header), sizeof *passed);
    packet->size = (size_t)received;
    if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        if (*passed >= 0)
            close(*passed);
        *passed = -1;
        return cm_fail(EPROTO, "a message on the store's socket is too long");
    }
    return 0;
}

/* ---- sockets ----------------------------------------------------------------------------------------------------- */

/* "/proc/self/fd/N/socket" is short enough for any store. */
static int address_of(const char *store, struct sockaddr_un *address, int *directory)
{
    *directory = open(store, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*directory < 0)
        return cm_fail(errno, "the store %s cannot be opened", store);
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/%s", *directory, socket_name);
    return 0;
}

int cm_wire_connect(const char *store, int *out)
{
    struct sockaddr_un address;
    int directory;
    int result = address_of(store, &address, &directory);
    if (result)
        return result;
    int made = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (made < 0 || connect(made, (struct sockaddr *)&address, sizeof address) < 0)
        result = cm_fail(errno, "no store server answers at %s", store);
    close(directory);
    if (!result)
        result = cm_wire_check_peer(made);
    if (result && made >= 0)
        close(made);
    if (!result)
        *out = made;
    return result;
}

int cm_wire_listen(const char *store, int *out)
{
    struct sockaddr_un address;
    int directory;
    int result = address_of(store, &address, &directory);
    if (result)
        return result;
    (void)unlinkat(directory, socket_name, 0);
    int made = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    /* The mode is set before anyone can connect: connecting needs listen. */
    if (made < 0 || bind(made, (struct sockaddr *)&address, sizeof address) < 0 ||
        fchmodat(directory, socket_name, 0600, 0) < 0 || listen(made, BACKLOG) < 0)
        result = cm_fail(errno, "the server's socket in %s cannot be made", store);
    close(directory);
    if (result && made >= 0)
        close(made);
    if (!result)
        *out = made;
    return result;
}

void cm_wire_unlink(const char *store)
{
    int directory = open(store, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return;
    (void)unlinkat(directory, socket_name, 0);
    close(directory);
}

int cm_wire_check_peer(int socket)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return cm_fail(errno, "who is at the other end of the store's socket cannot be told");
    if (peer.uid != geteuid() && peer.uid != 0)
        return cm_fail(EPERM, "the other end of the store's socket is user %u: a store is its owner's alone",
                       (unsigned)peer.uid);
    return 0;
}
