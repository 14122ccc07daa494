// XCache's decision plugin: asks the program beside the cache whether a file is worth keeping (af_decision/__init__.py).
//
//     pfc.decisionlib /opt/af/lib/libXrdPfcAfDecision.so /run/xcache/decision.sock
//
// It is called in the thread that opens the file, so it waits for one answer and for DEADLINE_MS, and whatever goes
// wrong, the file is cached as without it.
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>

#include "XrdOss/XrdOss.hh"
#include "XrdPfc/XrdPfcDecision.hh"
#include "XrdSys/XrdSysError.hh"
#include "XrdVersion.hh"

namespace
{
constexpr int DEADLINE_MS = 50;
using Clock = std::chrono::steady_clock;

class AfDecision : public XrdPfc::Decision
{
public:
   explicit AfDecision(XrdSysError &log) : m_log(log) { m_address.sun_family = AF_UNIX; }

   bool ConfigDecision(const char *socket) override
   {
      if (std::strlen(socket) >= sizeof(m_address.sun_path))
      {
         m_log.Emsg("Decision", "the path of the socket is too long, files are cached as usual:", socket);
         return false;
      }
      std::strcpy(m_address.sun_path, socket);
      return true;
   }

   bool Decide(const std::string &path, XrdOss &disk) const override
   {
      // A line is a question: a path with a newline in it would be two.
      if (path.find('\n') != std::string::npos) return true;
      struct stat unused;
      // What is on disk, if only in part, is read from there; and the cache has put off its open at the origin.
      const bool cached = disk.Stat((path + ".cinfo").c_str(), &unused) == 0;
      const bool keep = Ask((cached ? "hit " : "miss ") + path + "\n", !cached);
      if (!keep) m_log.Emsg("Decision", "past the cache:", path.c_str());
      return keep;
   }

private:
   XrdSysError &m_log;
   sockaddr_un m_address{};

   // Return false if, and only if, the answer came in time and is "0".
   bool Ask(const std::string &question, bool wait) const
   {
      const auto deadline = Clock::now() + std::chrono::milliseconds(DEADLINE_MS);
      // Non-blocking: where too many wait already, connecting fails at once.
      const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
      if (fd < 0) return true;
      char answer = '1';
      if (connect(fd, reinterpret_cast<const sockaddr *>(&m_address), sizeof(m_address)) == 0
          && send(fd, question.data(), question.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(question.size()) && wait
          && Readable(fd, deadline))
         if (recv(fd, &answer, 1, 0) != 1) answer = '1';
      close(fd);
      return answer != '0';
   }

   static bool Readable(int fd, Clock::time_point deadline)
   {
      pollfd waited{fd, POLLIN, 0};
      for (;;)
      {
         const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
         const int ready = left > 0 ? poll(&waited, 1, static_cast<int>(left)) : 0;
         if (ready >= 0 || errno != EINTR) return ready > 0;
      }
   }
};
}

XrdVERSIONINFO(XrdPfcGetDecision, AfDecision)

extern "C" XrdPfc::Decision *XrdPfcGetDecision(XrdSysError &log) { return new AfDecision(log); }
