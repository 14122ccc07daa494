// What the cache has on its disk, by what it has written.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <utility>

class Disk
{
public:
   explicit Disk(long long limit) : m_limit(limit) {}

   void Began(const std::string &path);
   // Take room for so many bytes of a file. Return false, and take none, where there is not so much.
   bool Take(const std::string &path, long long size);
   void Gone(const std::string &path);
   bool IsFull() const;
   // Return all that it may hold, and what of it is free, in bytes.
   std::pair<long long, long long> Space() const;
   bool Holds(const std::string &path) const;

private:
   const long long m_limit;
   long long m_used = 0;
   std::map<std::string, long long> m_files;
   mutable std::mutex m_mutex;
};

// The disk of this process.
Disk &TheDisk();
