# Functions of modules beside a notebook are known to Spark's workers too.
c.InteractiveShellApp.extensions.append("af_client.pod.spark_modules")  # noqa: F821 - given by IPython
