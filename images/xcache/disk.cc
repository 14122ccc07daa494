// The cache's disk, which never holds more than it may.
//
//     pfc.osslib ++ /opt/af/lib/libXrdAfCache.so
//     setenv AF_XCACHE_DISK = bytes
//
// XCache looks once a minute whether it has too much. In a minute a client reads many times what a small cache may
// hold, and the kubelet would evict the pod, with whatever else runs in it. So a block for which there is no room is
// not written: it is passed on, and fetched again if somebody asks again.
#include "disk.hh"

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>

#include "XrdOss/XrdOssVS.hh"
#include "XrdOss/XrdOssWrapper.hh"
#include "XrdVersion.hh"

namespace
{
// pfc.blocksize. XCache counts a file in whole blocks when it purges: counted otherwise here, it would free too little.
constexpr long long BLOCK = 512 << 10;
// Beside each file is the list of its blocks, which is written over and over; the last block has room for it.
const std::string LIST = ".cinfo";

bool IsList(const std::string &path)
{
   return path.size() > LIST.size() && path.compare(path.size() - LIST.size(), LIST.size(), LIST) == 0;
}
}

void Disk::Began(const std::string &path)
{
   const std::lock_guard<std::mutex> lock(m_mutex);
   m_files.emplace(path, 0);
}

bool Disk::Take(const std::string &path, long long size)
{
   const long long room = (size + BLOCK - 1) / BLOCK * BLOCK;
   const std::lock_guard<std::mutex> lock(m_mutex);
   if (m_used + room > m_limit) return false;
   m_files[path] += room;
   m_used += room;
   return true;
}

void Disk::Gone(const std::string &path)
{
   const std::lock_guard<std::mutex> lock(m_mutex);
   const auto found = m_files.find(path);
   if (found == m_files.end()) return;
   m_used -= found->second;
   m_files.erase(found);
}

bool Disk::IsFull() const
{
   const auto [all, free] = Space();
   return free < all / 64;
}

std::pair<long long, long long> Disk::Space() const
{
   const std::lock_guard<std::mutex> lock(m_mutex);
   return {m_limit, m_limit - m_used};
}

bool Disk::Holds(const std::string &path) const
{
   const std::lock_guard<std::mutex> lock(m_mutex);
   return m_files.count(path) > 0;
}

Disk &TheDisk()
{
   // Without a size it holds nothing, and the cache passes on what it reads.
   const char *size = std::getenv("AF_XCACHE_DISK");
   static Disk disk(size ? std::atoll(size) : 0);
   return disk;
}

namespace
{
class File : public XrdOssWrapDF
{
public:
   explicit File(XrdOssDF *file) : XrdOssWrapDF(*file), m_file(file) {}

   int Open(const char *path, int flags, mode_t mode, XrdOucEnv &env) override
   {
      m_path = path;
      return wrapDF.Open(path, flags, mode, env);
   }

   ssize_t Write(const void *buffer, off_t offset, size_t size) override
   {
      if (!Take(size)) return -ENOSPC;
      return wrapDF.Write(buffer, offset, size);
   }

   ssize_t pgWrite(void *buffer, off_t offset, size_t size, uint32_t *sums, uint64_t options) override
   {
      if (!Take(size)) return -ENOSPC;
      return wrapDF.pgWrite(buffer, offset, size, sums, options);
   }

private:
   const std::unique_ptr<XrdOssDF> m_file;
   std::string m_path;

   bool Take(size_t size) { return IsList(m_path) || TheDisk().Take(m_path, static_cast<long long>(size)); }
};

class Oss : public XrdOssWrapper
{
public:
   using XrdOssWrapper::XrdOssWrapper;

   XrdOssDF *newFile(const char *client) override { return new File(wrapPI.newFile(client)); }

   int Create(const char *client, const char *path, mode_t mode, XrdOucEnv &env, int options) override
   {
      if (!IsList(path)) TheDisk().Began(path);
      return wrapPI.Create(client, path, mode, env, options);
   }

   // What XCache purges by is this cache's own disk, and not that of the node.
   int StatVS(XrdOssVSInfo *space, const char *, int) override
   {
      const auto [all, free] = TheDisk().Space();
      space->Total = all;
      space->Free = space->Large = space->LFree = free;
      space->Usage = all - free;
      space->Extents = 1;
      return 0;
   }

   int Unlink(const char *path, int options, XrdOucEnv *env) override
   {
      const int rc = wrapPI.Unlink(path, options, env);
      if (rc == 0) TheDisk().Gone(path);
      return rc;
   }
};

// What an earlier process left is of versions that nobody knows (opens.cc).
void Empty(XrdOss &oss)
{
   char root[4096];
   if (oss.Lfn2Pfn("/", root, sizeof(root)) != 0) return;
   for (const auto &each : std::filesystem::directory_iterator(root)) std::filesystem::remove_all(each.path());
}
}

XrdVERSIONINFO(XrdOssAddStorageSystem2, AfDisk)

extern "C" XrdOss *XrdOssAddStorageSystem2(XrdOss *oss, XrdSysLogger *, const char *, const char *, XrdOucEnv *)
{
   Empty(*oss);
   return new Oss(*oss);
}
