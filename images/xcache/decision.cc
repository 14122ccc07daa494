// Asks the program beside the cache whether a file is worth keeping (af_decision/__init__.py).
//
//     setenv AF_XCACHE_DECISION = /run/xcache/decision.sock
//
// It is called in the thread that opens the file, so it waits for one answer and for DEADLINE_MS, and whatever goes
// wrong, the file is cached as without it.
#include "decision.hh"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>

namespace
{
constexpr int DEADLINE_MS = 50;
using Clock = std::chrono::steady_clock;

bool Readable(int fd, Clock::time_point deadline)
{
   pollfd waited{fd, POLLIN, 0};
   for (;;)
   {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
      const int ready = left > 0 ? poll(&waited, 1, static_cast<int>(left)) : 0;
      if (ready >= 0 || errno != EINTR) return ready > 0;
   }
}

// Return false if, and only if, the answer came in time and is "0".
bool Ask(const sockaddr_un &address, const std::string &question, bool wait)
{
   const auto deadline = Clock::now() + std::chrono::milliseconds(DEADLINE_MS);
   // Non-blocking: where too many wait already, connecting fails at once.
   const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
   if (fd < 0) return true;
   char answer = '1';
   if (connect(fd, reinterpret_cast<const sockaddr *>(&address), sizeof(address)) == 0
       && send(fd, question.data(), question.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(question.size()) && wait
       && Readable(fd, deadline))
      if (recv(fd, &answer, 1, 0) != 1) answer = '1';
   close(fd);
   return answer != '0';
}
}

bool IsWorthKeeping(const std::string &path, bool on_disk)
{
   const char *socket = std::getenv("AF_XCACHE_DECISION");
   sockaddr_un address{};
   // A line is a question: a path with a newline in it would be two.
   if (!socket || std::strlen(socket) >= sizeof(address.sun_path) || path.find('\n') != std::string::npos) return true;
   address.sun_family = AF_UNIX;
   std::strcpy(address.sun_path, socket);
   return Ask(address, (on_disk ? "hit " : "miss ") + path + "\n", !on_disk);
}
