/* Loaded before libc into a process: a share of its UDP packets, LOST_SHARE of 0..1, is lost on their way out and in. */
#define _GNU_SOURCE /* RTLD_NEXT */
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/types.h>

static int is_lost(int socket)
{
    static __thread unsigned int seed = 1;
    static double share = -1.0;
    int kind = 0;
    socklen_t size = sizeof kind;
    if (share < 0) {
        const char *text = getenv("LOST_SHARE");
        share = text ? atof(text) : 0.0;
    }
    return !getsockopt(socket, SOL_SOCKET, SO_TYPE, &kind, &size) && kind == SOCK_DGRAM
        && rand_r(&seed) < share * RAND_MAX;
}

ssize_t sendmsg(int socket, const struct msghdr *message, int flags)
{
    static ssize_t (*real)(int, const struct msghdr *, int);
    if (!real) real = (ssize_t (*)(int, const struct msghdr *, int))dlsym(RTLD_NEXT, "sendmsg");
    if (is_lost(socket)) {
        ssize_t length = 0;
        for (size_t i = 0; i < message->msg_iovlen; i++) length += message->msg_iov[i].iov_len;
        return length;
    }
    return real(socket, message, flags);
}

ssize_t recvmsg(int socket, struct msghdr *message, int flags)
{
    static ssize_t (*real)(int, struct msghdr *, int);
    ssize_t length;
    if (!real) real = (ssize_t (*)(int, struct msghdr *, int))dlsym(RTLD_NEXT, "recvmsg");
    do length = real(socket, message, flags);
    while (length > 0 && is_lost(socket));
    return length;
}

ssize_t sendto(int socket, const void *data, size_t length, int flags, const struct sockaddr *to, socklen_t size)
{
    static ssize_t (*real)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
    if (!real)
        real = (ssize_t (*)(int, const void *, size_t, int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "sendto");
    return is_lost(socket) ? (ssize_t)length : real(socket, data, length, flags, to, size);
}

ssize_t recvfrom(int socket, void *data, size_t size, int flags, struct sockaddr *from, socklen_t *from_size)
{
    static ssize_t (*real)(int, void *, size_t, int, struct sockaddr *, socklen_t *);
    ssize_t length;
    if (!real)
        real = (ssize_t (*)(int, void *, size_t, int, struct sockaddr *, socklen_t *))dlsym(RTLD_NEXT, "recvfrom");
    do length = real(socket, data, size, flags, from, from_size);
    while (length > 0 && is_lost(socket));
    return length;
}
