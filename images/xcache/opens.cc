// Which opens the cache answers itself, and which it sends past it, to the server that they name.
//
//     xrootd.fslib /opt/af/lib/libXrdAfCache.so
//     setenv AF_XCACHE_ORIGIN = host:port
//
// Clients send every root:// URL here, as /root://host:port//path: XrdCl's proxy plugin knows neither hosts nor what a
// file is opened for. Answered is a read of the origin. Writes, and all of other servers, are redirected: the client
// goes there itself, as itself. XCache takes files for immutable, which they are not: at each open the origin is asked
// for size and time of the file, and what the cache has of an earlier one goes. What is not worth keeping, or has no
// room, is redirected as well: XCache 5.5.3 can decline a file itself (pfc.decisionlib), and reads over its end then fail.
#include "decision.hh"
#include "disk.hh"

#include <strings.h>
#include <sys/stat.h>

#include <chrono>
#include <cstdlib>
#include <ctime>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <tuple>

#include "XrdCl/XrdClFileSystem.hh"
#include "XrdOfs/XrdOfs.hh"
#include "XrdSys/XrdSysError.hh"
#include "XrdVersion.hh"

extern XrdSysError OfsEroute;
extern XrdOfs *XrdOfsFS;

namespace XrdPfc
{
// Of the library that is loaded with the cache. Debian has no header of it; neither is virtual.
class Cache
{
public:
   static Cache &GetInstance();
   int UnlinkFile(const std::string &path, bool fail_if_open);
};
}

// Of the server itself, which loads this. Debian has no header of it, either.
class XrdLinkCtl
{
public:
   static void SyncAll();
};

namespace
{
constexpr int STAT_SECONDS = 10;
// Times of files are in seconds: what was written in this one may be written again in it. It is not kept yet.
constexpr int SETTLED_SECONDS = 3;
constexpr std::chrono::milliseconds COUNTERS_EVERY{500};
constexpr int WRITES = SFS_O_WRONLY | SFS_O_RDWR | SFS_O_CREAT | SFS_O_TRUNC;
const std::string ROOT = "/root:/";
const std::string DEFAULT_PORT = ":1094";

struct Target
{
   std::string server;
   std::string path;
};

// Return what is asked for by /root:/host:port//path, with however many slashes; no server if it is not of this form.
Target Parse(const std::string &name)
{
   if (name.compare(0, ROOT.size(), ROOT) != 0) return {};
   const auto begin = name.find_first_not_of('/', ROOT.size());
   const auto end = begin == std::string::npos ? begin : name.find('/', begin);
   if (end == std::string::npos) return {};
   const auto path = name.find_first_not_of('/', end);
   return {name.substr(begin, end - begin), path == std::string::npos ? "/" : "/" + name.substr(path)};
}

// Return a server as it is compared: without the user, with the port.
std::string Address(const std::string &server)
{
   const std::string host = server.substr(server.rfind('@') + 1);
   const bool port = host.find(':', host.rfind(']') == std::string::npos ? 0 : host.rfind(']')) != std::string::npos;
   return port ? host : host + DEFAULT_PORT;
}

// Return whether a file is on disk, or will be.
bool IsKept(const std::string &path)
{
   const bool on_disk = TheDisk().Holds(path);
   const bool worth = IsWorthKeeping(path, on_disk);
   if (!worth) OfsEroute.Emsg("Decision", "past the cache:", path.c_str());
   return on_disk || (worth && !TheDisk().IsFull());
}

class Origin
{
public:
   explicit Origin(const std::string &server)
      : m_address(Address(server)), m_files(XrdCl::URL("root://" + m_address)) {}

   bool Is(const std::string &server) const { return strcasecmp(Address(server).c_str(), m_address.c_str()) == 0; }

   // Ask for the file as it is now: what the cache has of an earlier one goes. Return whether the rest is of this one.
   bool IsAsKept(const std::string &path)
   {
      XrdCl::StatInfo *raw = nullptr;
      const XrdCl::XRootDStatus status = m_files.Stat(path, raw, STAT_SECONDS);
      const std::unique_ptr<XrdCl::StatInfo> info(raw);
      // Without the origin what is on disk is better than nothing.
      if (!status.IsOK() && status.errNo != kXR_NotFound) return true;
      if (!status.IsOK()) return Forget(path), false;
      const bool settled = static_cast<time_t>(info->GetModTime()) + SETTLED_SECONDS < std::time(nullptr);
      if (!settled) return Forget(path), false;
      return IsNow(path, {info->GetModTime(), info->GetSize()});
   }

private:
   using Version = std::tuple<uint64_t, uint64_t>;
   const std::string m_address;
   XrdCl::FileSystem m_files;
   std::mutex m_mutex;
   std::map<std::string, Version> m_versions;

   // What this process has not seen on disk may be of any version. Return false while somebody reads the earlier one.
   bool IsNow(const std::string &path, const Version &now)
   {
      const std::lock_guard<std::mutex> lock(m_mutex);
      const auto known = m_versions.find(path);
      if (known != m_versions.end() && known->second == now) return true;
      if (!Unlink(path)) return false;
      m_versions[path] = now;
      return true;
   }

   void Forget(const std::string &path)
   {
      const std::lock_guard<std::mutex> lock(m_mutex);
      Unlink(path);
      m_versions.erase(path);
   }

   static bool Unlink(const std::string &path)
   {
      const int rc = XrdPfc::Cache::GetInstance().UnlinkFile(path, true);
      return rc == 0 || rc == -ENOENT;
   }
};

class File : public XrdOfsFile
{
public:
   File(XrdOucErrInfo &error, const char *user, Origin &origin) : XrdOfsFile(error, user), m_origin(origin) {}

   int open(const char *name, XrdSfsFileOpenMode mode, mode_t access, const XrdSecEntity *client,
            const char *opaque) override
   {
      const Target target = Parse(name);
      if (target.server.empty() || IsForCache(target, mode)) return XrdOfsFile::open(name, mode, access, client, opaque);
      // Of a port that is none the client takes the text for a URL.
      error.setErrInfo(-1, ("root://" + target.server + "/" + target.path).c_str());
      return SFS_REDIRECT;
   }

private:
   Origin &m_origin;

   bool IsForCache(const Target &target, XrdSfsFileOpenMode mode)
   {
      const bool read = (mode & WRITES) == 0 && m_origin.Is(target.server);
      return read && m_origin.IsAsKept(target.path) && IsKept(target.path);
   }
};

class FullFile : public File
{
public:
   FullFile(const char *user, int id, Origin &origin) : File(m_error, user, origin), m_error(user, id) {}

private:
   XrdOucErrInfo m_error;
};

class FileSystem : public XrdOfs
{
public:
   explicit FileSystem(const std::string &origin) : m_origin(origin) {}

   XrdSfsFile *newFile(char *user, int id) override { return new FullFile(user, id, m_origin); }
   XrdSfsFile *newFile(XrdOucErrInfo &error) override { return new File(error, error.getErrUser(), m_origin); }

private:
   Origin m_origin;
};

// Add what open connections have sent to the counters (query stats l), which otherwise know it once they are closed.
// XRootD can do so itself (xrd.report … sync), until its timer misses a signal and sleeps for a quarter of an hour.
[[noreturn]] void CountTraffic()
{
   for (;; std::this_thread::sleep_for(COUNTERS_EVERY)) XrdLinkCtl::SyncAll();
}
}

XrdVERSIONINFO(XrdSfsGetFileSystem2, AfOpens)

extern "C" XrdSfsFileSystem *XrdSfsGetFileSystem2(XrdSfsFileSystem *, XrdSysLogger *log, const char *config, XrdOucEnv *env)
{
   OfsEroute.SetPrefix("ofs_");
   OfsEroute.logger(log);
   const char *origin = std::getenv("AF_XCACHE_ORIGIN");
   if (!origin) return OfsEroute.Emsg("Config", "AF_XCACHE_ORIGIN is not set"), nullptr;
   static FileSystem fs(origin);
   XrdOfsFS = &fs;
   fs.ConfigFN = config && *config ? strdup(config) : nullptr;
   if (fs.Configure(OfsEroute, env)) return nullptr;
   std::thread(CountTraffic).detach();
   return &fs;
}
